from pointland.verdict import tell


def told(**evidence: object) -> str:
    usual: dict[str, object] = {
        "n_exact": 1,
        "n_near": 1,
        "data_lid": 12.0,
        "data_lid_p": 0.5,
        "complexity_p": 0.5,
    }
    return tell(**{**usual, **evidence}).kind  # type: ignore[arg-type]  # options by name


def test_the_decision_table() -> None:
    assert told() == "overfitting-driven"
    assert told(n_exact=2, n_near=2) == "data-driven"
    assert told(n_near=3) == "data-driven"
    assert told(data_lid=3.0, data_lid_p=0.01) == "data-driven"
    assert told(complexity_p=0.01) == "data-driven"
    assert told(data_lid=None, data_lid_p=None) == "cannot tell"
    assert told(data_lid_p=None) == "cannot tell"


def test_copies_are_enough_without_anything_else() -> None:
    assert told(n_exact=2, n_near=2, data_lid=None, data_lid_p=None, complexity_p=None) == "data-driven"


def test_every_kind_says_why() -> None:
    found = tell(n_exact=3, n_near=5, data_lid=2.0, data_lid_p=0.01, complexity_p=0.01)
    assert len(found.evidence) == 4
    assert "3 exact copies" in found.evidence[0]
    assert tell(n_exact=1, n_near=1, data_lid=None, data_lid_p=None, complexity_p=None).evidence
