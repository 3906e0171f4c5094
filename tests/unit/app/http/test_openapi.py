"""The OpenAPI document of handlers that are not ours, and the mending of schemas."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from litestar import Litestar, Response, get, post

from app.http.openapi.describe import Body, described
from app.http.openapi.document import document
from app.http.openapi.schemas import public_name, schemas_of
from app.http.pages import Page


class Cat(msgspec.Struct, tag_field="kind", tag="cat"):
    lives: Annotated[int, msgspec.Meta(ge=0, le=9)] | None = None


class Dog(msgspec.Struct, tag_field="kind", tag="dog"):
    tail: bool | msgspec.UnsetType = msgspec.UNSET


class PetOut(msgspec.Struct):
    pet: Cat | Dog
    sound: Literal["meow", "woof"] = "meow"
    object: Literal["pet"] = "pet"


def operations_of(*handlers: Any) -> dict[str, Any]:
    app = Litestar(list(handlers), openapi_config=None)
    made = document(app, title="Test", version="0")
    return {one["operationId"]: one for item in made["paths"].values() for one in item.values()}


def test_handlers_of_a_third_party_are_in_the_document() -> None:
    """A plugin's route that says nothing of itself: its signature is enough."""

    @get("/pets/{name:str}")
    async def find_a_pet(name: str, age: int | None = None) -> Response[PetOut]:
        """Find one. Or none."""
        raise NotImplementedError

    found = operations_of(find_a_pet)["findAPet"]
    assert (found["summary"], found["description"]) == ("Find one", "Find one. Or none.")
    assert [(p["name"], p["in"], p["required"]) for p in found["parameters"]] == [
        ("name", "path", True),
        ("age", "query", False),
    ]
    assert found["parameters"][1]["schema"] == {"type": "integer"}
    answer = found["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": "#/components/schemas/PetObject"}
    assert {"400", "401", "500"} <= found["responses"].keys()


def test_an_unknown_code_is_a_mistake() -> None:
    """Only what is in the table of errors can be answered."""

    @post("/pets", opt=described(body=Body(kind=Cat), codes=("no_such_code",)))
    async def make() -> None: ...

    with pytest.raises(KeyError, match="no_such_code"):
        operations_of(make)


def test_discriminators_and_bounds_are_kept() -> None:
    """What Litestar's own generator drops."""
    _, _, components = schemas_of([], [PetOut])
    pet = components["PetObject"]["properties"]["pet"]
    assert pet["discriminator"]["mapping"] == {
        "cat": "#/components/schemas/Cat",
        "dog": "#/components/schemas/Dog",
    }
    assert components["Cat"]["properties"]["kind"] == {"type": "string", "const": "cat"}
    assert components["Cat"]["properties"]["lives"]["anyOf"][0] == {"type": "integer", "minimum": 0, "maximum": 9}


def test_what_is_always_written_is_required_in_answers_alone() -> None:
    """A default is written out; what is UNSET is not. A request may leave both out."""
    _, _, given = schemas_of([], [PetOut])
    assert given["PetObject"]["required"] == ["pet", "sound", "object"]
    assert given["Dog"]["required"] == ["kind"]
    _, _, taken = schemas_of([PetOut], [PetOut])
    assert taken["PetObject"]["required"] == ["pet"]


def test_names_are_those_that_clients_call_things() -> None:
    """Stable: they are class names in generated programs. Two types of one name are refused, not silently renamed."""
    _, _, components = schemas_of([], [Page[PetOut]])
    assert {"PetObject", "PetObjectPage"} <= components.keys()
    assert public_name("Cat") == "Cat"
    other = msgspec.defstruct("PetObject", [("a", int)])
    with pytest.raises(ValueError, match="one name"):
        schemas_of([], [PetOut, other])
