-- Make schema pgflow. Several first runs may collide here: those that fail inspect again.
create schema if not exists pgflow
