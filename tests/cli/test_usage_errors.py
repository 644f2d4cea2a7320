"""The table of what each program can do, which advice about an unknown command uses."""

import bridge.__main__
from valyrian_jax.cli.main import main
from valyrian_jax.cli.usage_errors import _PROGRAMS


def test_the_commands_of_one_program_only_are_those_it_has() -> None:
    ours, theirs = (set(program.commands) for program in (main, bridge.__main__.main))
    assert {*_PROGRAMS["valyrian"]} == ours - theirs
    assert {*_PROGRAMS["valyrian-bridge"]} == theirs - ours
