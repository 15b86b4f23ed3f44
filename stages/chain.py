"""What follows the title of a round in the names of its stages, wherever they are named."""

TARGETS, DISTIL, JUDGE, PROMOTE = (
    ", pre-generate targets",
    ", distil",
    ", judge",
    ", promote",
)
