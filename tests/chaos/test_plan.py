"""The plan of a chaos run."""

from chaos import plan


def drawn(seed: int) -> plan.Plan:
    return plan.draw(seed, deliveries=500, kills=80, restarts=3, length_s=200)


def test_a_seed_draws_the_same_plan_again() -> None:
    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)


def test_as_much_is_planned_as_was_asked_for() -> None:
    asked = drawn(7)
    assert asked.deliveries >= asked.asked == 500
    assert (len(asked.kills), len(asked.restarts), len(asked.freezes)) == (80, 3, 3)


def test_some_deeds_fall_when_the_database_goes_down() -> None:
    asked = drawn(7)
    for at, _ in asked.restarts:
        assert [deed for deed in asked.deeds if abs(deed.at_s - at) < 0.5]


def test_a_post_has_one_moment_at_which_people_change_their_minds() -> None:
    moments = [deed.post for deed in drawn(7).deeds if deed.deed != "retry"]
    assert len(moments) == len(set(moments))
