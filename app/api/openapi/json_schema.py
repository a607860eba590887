"""How the components of the description are written down: JSON Schema 2020-12."""

from typing import Any

Schema = dict[str, Any]


def reference(name: str) -> Schema:
    """Return a reference to the schema of that name."""
    return {"$ref": f"#/components/schemas/{name}"}


def object_of(properties: dict[str, Schema], *, optional: tuple[str, ...] = (), **details: Any) -> Schema:
    """Return the schema of an object. All properties are required, except the optional ones."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", **details, "properties": properties, "required": required}


def array_of(items: Schema, **details: Any) -> Schema:
    """Return the schema of an array."""
    return {"type": "array", "items": items, **details}


def map_of(values: Schema, **details: Any) -> Schema:
    """Return the schema of an object with any names."""
    return {"type": "object", "additionalProperties": values, **details}


def text(description: str = "", **details: Any) -> Schema:
    """Return the schema of a string."""
    described = {"description": description} if description else {}
    return {"type": "string", **described, **details}


def count(description: str, *, is_nullable: bool = False, **details: Any) -> Schema:
    """Return the schema of a number of things or bytes."""
    kind = ["integer", "null"] if is_nullable else "integer"
    return {"type": kind, "minimum": 0, "description": description, **details}


def nullable(schema: Schema, **details: Any) -> Schema:
    """Return the schema that allows null, too."""
    return {"oneOf": [schema, {"type": "null"}], **details}


ID = text(pattern="^[A-Za-z0-9_-]{1,128}$")
UPLOAD_ID = text(pattern="^[A-Za-z0-9_-]{1,64}$")
SHA256_HEX = text(pattern="^[0-9a-f]{64}$")
TIME = text(format="date-time")
NULLABLE_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
