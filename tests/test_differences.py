"""The table in flytectl(1) of what differs from a Flyte cluster at run time: a test holds each of its rows."""

# ruff: noqa: E501  the names of tests are as long as they are

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HELD_BY = {
    "The shell": "tests/launch/test_programs.py::test_a_secret_argument_reaches_no_shell_and_no_process_list",
    "Values of variables": "tests/launch/test_command.py::test_templates_are_filled_in",
    "Values of secrets": "tests/launch/test_command.py::test_the_value_of_a_secret_is_never_split",
    "Variables that are not defined": "tests/plan/test_arguments.py::test_what_cannot_be_meant_is_refused",
    "${NAME} at the beginning of an argument": "tests/contract/test_real_shell.py::test_the_words_are_those_of_a_real_shell",
    "$(NAME)": "tests/plan/test_arguments.py::test_command_is_not_fserves",
    "Secrets among arguments": "tests/launch/test_programs.py::test_another_program_with_a_secret_argument_is_refused",
    "Secrets in a line for a shell": "tests/launch/test_programs.py::test_a_line_for_a_shell_names_no_secret",
    "Python programs": "tests/launch/test_programs.py::test_a_console_script_of_the_image_runs_in_process",
    "The module of an app with args": "tests/launch/test_ports.py::test_it_is_ready_when_its_port_listens",
    "The resolver": "tests/launch/test_failures.py::test_a_command_that_cannot_be_run_is_refused",
    "Variables that must not be set": "tests/launch/test_options.py::test_launch_and_flyted_refuse_the_same_variables",
    "Variables of an image that name each other": "tests/plan/test_images_variables.py::test_variables_are_what_flytes_own_builder_makes_of_them",
    "Variables that Knative sets": "tests/plan/test_knative.py::test_an_app_has_knatives_variables_below_its_own",
    "A secret and a variable of one name": "tests/launch/test_start.py::test_a_secret_wins_over_a_variable_of_its_name",
    "The working directory": "tests/launch/test_workdir.py::test_what_the_app_wrote_stays_and_what_the_bundle_brings_is_replaced",
    "Surroundings": "tests/launch/test_start.py::test_the_app_has_the_surroundings_of_a_container",
    "The raw data path": "tests/launch/test_control_plane.py::test_the_sdk_knows_project_domain_and_folder",
    "Calls of tasks and runs": "tests/launch/test_control_plane.py::test_what_needs_a_control_plane_fails_at_once_with_the_reason",
    "uvicorn": "tests/launch/test_programs.py::test_a_script_that_calls_uvicorn_run_serves_on_the_units_socket",
    "Readiness": "tests/launch/test_ports.py::test_who_is_ready",
    "The end of an app": "tests/launch/test_ports.py::test_a_stop_finishes_what_is_in_flight_and_leaves_the_rest_to_the_next_start",
    "The number of replicas": "tests/daemon/test_life_replicas.py::test_replicas_follow_the_load",
    "on_shutdown of a plain function": "tests/launch/test_start.py::test_sigterm_ends_a_server_function_without_uvicorn",
    "Programs in the background": "tests/launch/test_ports.py::test_an_end_before_it_listens_is_told",
    "What is printed": "tests/launch/test_ports.py::test_no_secret_that_the_program_prints_reaches_the_journal",
}


def rows() -> list[str]:
    """The titles, as the man page has them."""
    page = (ROOT / "packaging/man/flytectl.1").read_text()
    section = page.split(".Sh DIFFERENCES FROM A FLYTE CLUSTER\n")[1].split("\n.Sh ")[0]
    return re.findall(r"^\.It Sy (.+)$", section, re.MULTILINE)


def test_each_row_has_a_test_and_each_test_a_row() -> None:
    """Neither a promise without a proof, nor a proof of something that nobody was told."""
    assert rows() == list(HELD_BY)


@pytest.mark.parametrize("test", sorted(set(HELD_BY.values())))
def test_the_test_is_there(test: str) -> None:
    """Under the name that this file gives it."""
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
