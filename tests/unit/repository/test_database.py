"""A database URL that libpq would split otherwise than meant shows nothing of it."""

from __future__ import annotations

import pytest

from pgflow_cli.errors import ConfigurationError
from pgflow_cli.repository import Database

SCHEMES = ["postgres", "postgresql"]
AT = "the database URL has an @ in its user or password; write it as %40"
UNREADABLE = "the database URL cannot be read"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("app:Right@Canary9@127.0.0.1:5711/t1", AT),
        ("app:Right@@Canary9@db/t1", AT),
        ("app@Canary9:Right@db", AT),
        ("app:Right@db,app:Canary9@other/t1", AT),
        ("app:Right@Canary9%40db/t1", AT),
        ("app:Right@x/Canary9@db/t1", UNREADABLE),
        ("app:1/Canary9@db/t1", UNREADABLE),
        ("app:Right@x?Canary9@db/t1", UNREADABLE),
        ("app:1/Canary9?x@db/t1", UNREADABLE),
        ("app:1/x#Canary9@db/t1", UNREADABLE),
        ("db?user=app&password=Right@Canary9", UNREADABLE),
        ("db:5432?password=Right@Canary9", UNREADABLE),
    ],
)
def test_a_password_that_is_not_encoded_is_refused_unseen(
    scheme: str, rest: str, said: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Database(f"{scheme}://{rest}").display()
    assert (refused.value.exit_code, refused.value.message) == (78, said)
    assert "Canary9" not in "".join((refused.value.message, *refused.value.hints))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("rest", "shown"),
    [
        ("app:p%40w@db:5/t", "app@db:5/t"),
        ("app:p#w?x@db/t", "app@db:5432/t"),
        ("app:p@a:1,b:2/t?application_name=x@y", "app@a,b:1,2/t"),
        ("db/t?user=app@azure", "app@azure@db:5432/t"),
        ("app@db?password=p@w", "app@db:5432/app"),
        ("app@/t?host=/run/x@y", "app@/run/x@y:5432/t"),
    ],
)
def test_an_at_sign_that_means_what_it_says_is_taken(
    scheme: str, rest: str, shown: str
) -> None:
    assert Database(f"{scheme}://{rest}").display() == shown


def test_a_password_in_quotes_may_look_like_a_url() -> None:
    where = Database("host=db user=app dbname=t password='x://a@b/c@d@e'")
    assert where.display() == "app@db:5432/t"
