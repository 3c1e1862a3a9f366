"""Tools of one's own in the three kinds of files, and a command typed on them."""

from pathlib import Path

from typer.testing import CliRunner

from xlam_jax.cli.main import app
from xlam_jax.errors import XlamError

SHOP = Path(__file__).with_name("shop.py")
DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "orders", "license": {"name": "MIT"}},
    "servers": [{"url": "https://shop.example/v1"}],
    "paths": {
        "/orders/{number}": {
            "parameters": [{"name": "number", "in": "path", "required": True, "schema": {"type": "integer"}}],
            "get": {
                "operationId": "get_order",
                "summary": "One order.",
                "tags": ["orders"],
                "parameters": [
                    {
                        "name": "fields",
                        "in": "query",
                        "schema": {"type": "array", "items": {"type": "string"}},
                    },
                    {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
                ],
                "responses": {
                    "200": {"content": {"application/json": {"example": {"number": 7, "state": "sent"}}}}
                },
            },
        },
        "/orders": {
            "post": {
                "operationId": "create_order",
                "description": "Orders something.",
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["item"],
                                "properties": {
                                    "item": {"type": "string"},
                                    "count": {"type": "integer", "minimum": 1},
                                },
                            }
                        }
                    }
                },
            },
            "get": {"operationId": "list_orders", "summary": "All orders."},
        },
        "/tags": {
            "put": {
                "operationId": "set_tags",
                "summary": "Replaces the tags.",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": {"type": "array", "items": {"type": "string"}}}
                    },
                },
            }
        },
    },
}
MCP = {
    "jsonrpc": "2.0",
    "result": {
        "tools": [
            {
                "name": "now",
                "description": "The time in a place.",
                "inputSchema": {
                    "type": "object",
                    "properties": {"zone": {"type": "string"}},
                    "required": ["zone"],
                },
            },
            {"name": "ping", "description": "Nothing.", "inputSchema": {"type": "object", "properties": {}}},
        ]
    },
}


def invoke(*words, code=0):
    """Output of a command and the message of an error, whose exit status the command's rim takes from it."""
    result = CliRunner().invoke(app, [str(w) for w in words])
    error = result.exception if isinstance(result.exception, XlamError) else None
    assert (error.exit_code if error else result.exit_code) == code, result.output + repr(result.exception)
    return result.output + (f"\n{error}" if error else "")
