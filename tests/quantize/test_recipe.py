"""Recipe names decode, and nothing else does."""

from __future__ import annotations

import pytest

from fcos_edge.errors import UsageError
from fcos_edge.quantize.recipe import Recipe, parse_recipe


@pytest.mark.parametrize(
    ("name", "wanted", "limit"),
    [
        ("w8c_a8t_minmax", Recipe(), 127),
        ("w7c_a8t_mse_bc", Recipe(7, True, False, "mse", ("bc",)), 63),
        ("w8t_a8s_average_cle_ws_ada_bc", Recipe(8, False, True, "average", ("cle", "ws", "ada", "bc")), 127),
    ],
)
def test_parse_recipe__decodes_and_names_itself_again(name: str, wanted: Recipe, limit: int) -> None:
    recipe = parse_recipe(name)
    assert recipe == wanted
    assert recipe.name == name
    assert recipe.weight_limit == limit


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("", "''"),
        ("w4c_a8t_mse", "'w4c' is none of w8c"),
        ("w8c_a16t_mse", "'a16t' is none of a8t"),
        ("w8c_a8t", "'' is none of minmax"),
        ("w8c_a8t_mse_xx", "'xx' is none of cle"),
        ("w8c_a8t_mse_bc_cle", "in the order cle"),  # the order in which they run is part of the name
        ("w8c_a8t_mse_bc_bc", "once each"),
    ],
)
def test_parse_recipe__says_which_part_is_wrong(name: str, part: str) -> None:
    with pytest.raises(UsageError, match="recipe") as caught:
        parse_recipe(name)
    assert part in str(caught.value)
