"""The plan of a chaos run."""

from chaos import plan
from chaos.troubles import HOUR_S


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


def test_each_trouble_is_in_a_run_of_minutes_and_all_but_the_replica_in_a_short_one() -> None:
    short = plan.draw(7, deliveries=80, kills=6, restarts=2, length_s=21)
    for one in (drawn(7), short):
        assert all([one.suspensions, one.silences, one.outages, one.clock_steps])
        assert any(silence.wires == ("database",) for silence in one.silences)
        assert next(each.everybody for each in one.suspensions)
    assert (len(drawn(7).failovers), len(short.failovers)) == (1, 0)


def test_the_clock_of_who_takes_over_is_set_before_or_about_when_that_is_noticed_and_right_again_later() -> None:
    failovers = [one for seed in range(40) for one in drawn(seed).failovers]
    behind = [one for one in failovers if one.ahead_s == -HOUR_S]
    ahead = [one for one in failovers if one.ahead_s == HOUR_S]
    assert len(behind) > len(ahead) > 0 < len([one for one in failovers if one.ahead_s == 0])
    for those in (behind, ahead):
        assert any(one.set_after_s == 0 for one in those) and any(0 < one.set_after_s <= 1 for one in those)
    assert all(one.right_after_s >= one.set_after_s + 3 for one in failovers)


def test_the_plan_waits_while_the_whole_machine_is_suspended() -> None:
    asked = drawn(7)
    [whole] = [one for one in asked.suspensions if one.everybody]
    from_s, until_s = whole.at_s + plan.troubles.MEANWHILE_S, whole.at_s + whole.length_s
    assert whole.length_s > 60
    times = [
        *asked.kills,
        *(at for at, _ in asked.restarts),
        *(one.at_s for one in (*asked.silences, *asked.failovers)),
    ]
    assert not [at for at in times if whole.at_s < at < until_s - plan.troubles.MEANWHILE_S - 0.001]
    assert from_s < until_s < asked.length_s


def test_two_persons_share_accounts_and_words() -> None:
    asked = plan.draw(7, deliveries=1000, kills=80, restarts=3, length_s=200)
    theirs = [post for post in asked.posts if post.person == 1]
    assert theirs and all(asked.shared.issuperset(post.accounts) for post in theirs)
    twins = [post for post in asked.posts if post.same_as is not None]
    assert {asked.posts[one.says].accounts == one.accounts for one in twins} == {True}
    assert {asked.posts[one.says].person == one.person for one in twins} == {True, False}
    assert set(asked.accounts.values()) == set(plan.INSTANCES)
