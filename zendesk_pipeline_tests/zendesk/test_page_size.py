"""The page size that the cursors of a range share; walks that halve it are in test_walk."""

from zendesk_pipeline.zendesk.page_size import PAGES_BEFORE_GROWING, PageSize


def test_all_cursors_of_a_range_learn_from_one() -> None:
    """A size that was too heavy for one halves for all, once; the good pages of all make it grow."""
    size = PageSize()
    for _ in range(3):
        size.is_too_heavy(50)  # three cursors had asked for so many
    assert size.now(100) == 50
    for _ in range(PAGES_BEFORE_GROWING):
        size.is_good(100, 100)  # what was asked for before says nothing
    assert size.now(100) == 50
    for _ in range(PAGES_BEFORE_GROWING):
        size.is_good(50, 100)
    assert size.now(100) == 100
    assert size.is_new
    size.is_good(100, 100)
    assert not size.is_new
