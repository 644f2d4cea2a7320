"""The table of what each program can do, which advice about an unknown command uses."""

import bridge.__main__
from valyrian_jax.cli.main import main
from valyrian_jax.cli.usage_errors import COMMANDS_OF_ONE_PROGRAM


def test_the_commands_of_one_program_only_are_those_it_has() -> None:
    ours, theirs = (set(program.commands) for program in (main, bridge.__main__.main))
    assert {*COMMANDS_OF_ONE_PROGRAM["valyrian"]} == ours - theirs
    assert {*COMMANDS_OF_ONE_PROGRAM["valyrian-bridge"]} == theirs - ours
