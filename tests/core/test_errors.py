from coview.core.errors import CoviewError, UnknownName, nearest


def test_unknown_name_offers_the_nearest():
    error = UnknownName("recipe", "simclr-cp", ["simclr-cpu", "supcon-cpu"])
    assert error.nearest == "simclr-cpu"
    assert "Did you mean 'simclr-cpu'?" in str(error)
    assert isinstance(error, LookupError)
    assert isinstance(error, CoviewError)


def test_nothing_near_is_no_guess():
    assert nearest("zzz", ["simclr"]) is None
