"""Encodings, escapes, checksums and identifiers."""

from __future__ import annotations

import base64
import binascii
import codecs
import hashlib
import hmac
import html
import json
import urllib.parse
import uuid
import zlib
from typing import Literal

from xlam_jax.apigen.functions import pools
from xlam_jax.apigen.functions.declare import api
from xlam_jax.apigen.functions.samples import pick


@api(
    "Encode {text} as Base64.",
    "What's the Base64 form of {text}?",
    ("I need {text} in URL-safe Base64.", {"url_safe": True}),
    "base64-encode this: {text}",
    name="base64_encode",
    give={"text": pools.phrase},
)
def base64_encode(text: str, url_safe: bool = False) -> str:
    """Encode a text as Base64.

    Args:
      text: Text to encode.
      url_safe: Whether to use the URL-safe alphabet.
    """
    return (base64.urlsafe_b64encode if url_safe else base64.b64encode)(text.encode()).decode()


@api(
    "Decode the Base64 string {data}.",
    "Someone sent me {data} in Base64. What does it say?",
    "base64-decode {data}",
    name="base64.decode",
    give={"data": lambda r: base64.b64encode(pools.word(r).encode()).decode()},
    edge={"data": ["abcde", "Zm9vY"]},
)
def base64_decode(data: str) -> str:
    """Decode a Base64 text.

    Args:
      data: Base64 data.
    """
    return base64.b64decode(data, validate=True).decode()


@api(
    "What is {text} in hexadecimal bytes?",
    "Hex-encode the text {text}.",
    "hex dump of {text}",
    name="text_to_hex",
    give={"text": pools.word},
)
def text_to_hex(text: str) -> str:
    """Encode a text as hexadecimal bytes.

    Args:
      text: Text to encode.
    """
    return binascii.hexlify(text.encode()).decode()


@api(
    "What text do the hex bytes {data} stand for?",
    "Decode the hexadecimal string {data} to text.",
    "hex to text: {data}",
    name="hexToText",
    give={"data": lambda r: pools.word(r).encode().hex()},
    edge={"data": ["68656c6c6", "zz41"]},
)
def hex_to_text(data: str) -> str:
    """Decode hexadecimal bytes to text.

    Args:
      data: Hexadecimal digits.
    """
    return binascii.unhexlify(data).decode()


@api(
    "Compute the {algorithm} hash of {text}.",
    "What's the {algorithm} digest of {text}?",
    "{algorithm} of {text}",
    "To compare it with a download page I need the {algorithm} hash of {text}.",
    name="hash_text",
    alike="hash",
    give={"text": pools.phrase},
    edge={"algorithm": ["md9"]},
)
def hash_text(text: str, algorithm: Literal["md5", "sha1", "sha256", "sha512"]) -> str:
    """Compute the hash of a text as hexadecimal digits.

    Args:
      text: Text to hash.
      algorithm: Hash algorithm.
    """
    return hashlib.new(algorithm, text.encode()).hexdigest()


@api(
    "Calculate the CRC-32 checksum of {text}.",
    "crc32 of {text}",
    "What CRC-32 does the message {text} have?",
    name="crc32_checksum",
    alike="hash",
    give={"text": pools.phrase},
)
def crc32_checksum(text: str) -> str:
    """Compute the CRC-32 checksum of a text.

    Args:
      text: Text to check.
    """
    return f"{zlib.crc32(text.encode()):08x}"


@api(
    "Sign {message} with the secret key {key}.",
    "What HMAC do I get for {message} under the key {key}?",
    "Sign {message} by HMAC with key {key}, using {algorithm}.",
    "hmac signature, {algorithm}, key {key}, message {message}",
    name="crypto.hmacSign",
    alike="hash",
    give={"message": pools.phrase, "key": lambda r: f"{r.choice(pools.WORDS)}-{r.randrange(100, 999)}"},
)
def hmac_sign(message: str, key: str, algorithm: Literal["sha1", "sha256", "sha512"] = "sha256") -> str:
    """Compute the HMAC signature of a message.

    Args:
      message: Message to sign.
      key: Secret key.
      algorithm: Hash algorithm.
    """
    return hmac.new(key.encode(), message.encode(), algorithm).hexdigest()


@api(
    "Percent-encode {text} for use in a URL.",
    "URL-encode {text}.",
    "How do I write {text} inside a web address?",
    name="url_encode",
    give={"text": pools.sentence},
)
def url_encode(text: str) -> str:
    """Percent-encode a text for URLs.

    Args:
      text: Text to encode.
    """
    return urllib.parse.quote(text, safe="")


@api(
    "Decode the percent-encoded string {text}.",
    "What does {text} mean once URL-decoded?",
    "url-decode {text}",
    name="urlDecode",
    give={"text": lambda r: urllib.parse.quote(pools.sentence(r))},
)
def url_decode(text: str) -> str:
    """Decode a percent-encoded text.

    Args:
      text: Text to decode.
    """
    return urllib.parse.unquote(text)


@api(
    "Escape {text} for HTML.",
    "Make {text} safe to put into a web page.",
    "html-escape {text}",
    name="html.escape",
    give={
        "text": lambda r: r.choice(
            (
                "<b>{}</b>",
                "{} & sons",
                "if a < b then {}",
                "<a href=x>{}</a>",
                "{} > all",
                "<p>{} &amp; more</p>",
            )
        ).format(r.choice(pools.WORDS))
    },
)
def html_escape(text: str) -> str:
    """Escape the special characters of HTML.

    Args:
      text: Text to escape.
    """
    return html.escape(text)


@api(
    "Turn the HTML entities in {text} back into characters.",
    "Unescape {text}.",
    "What does {text} look like without HTML entities?",
    name="html_unescape",
    give={
        "text": lambda r: r.choice(
            ("{} &amp; co", "&lt;{}&gt;", "caf&eacute; {}", "{} &copy; 2020", "5 &gt; {}")
        ).format(r.choice(pools.WORDS))
    },
)
def html_unescape(text: str) -> str:
    """Replace HTML entities by characters.

    Args:
      text: Text with entities.
    """
    return html.unescape(text)


@api(
    "Apply ROT13 to {text}.",
    "rot13 {text}",
    "The spoiler is hidden with ROT13: {text}. What does it say?",
    give={"text": lambda r: codecs.encode(pools.phrase(r), "rot13")},
)
def rot13(text: str) -> str:
    """Apply the ROT13 substitution.

    Args:
      text: Text to transform.
    """
    return codecs.encode(text, "rot13")


@api(
    "Generate the name-based UUID of {name} in the {namespace} namespace.",
    "What's the version 5 UUID for {name} under {namespace}?",
    "uuid5, namespace {namespace}, name {name}",
    name="generate_uuid5",
    give={"name": lambda r: f"{r.choice(pools.WORDS)}.example.com"},
)
def uuid5(name: str, namespace: Literal["DNS", "URL", "OID"]) -> str:
    """Generate a version 5 UUID from a name.

    Args:
      name: Name to derive from.
      namespace: Namespace of the name.
    """
    return str(
        uuid.uuid5(
            {"DNS": uuid.NAMESPACE_DNS, "URL": uuid.NAMESPACE_URL, "OID": uuid.NAMESPACE_OID}[namespace], name
        )
    )


@api(
    "Is {text} valid JSON?",
    "Check whether {text} parses as JSON.",
    "json valid? {text}",
    name="json.validate",
    alike="json",
    give={
        "text": lambda r: r.choice(
            ('{{"{}": {}}}', "[{1}, {1}]", "{{{}: {}}}", '["{}", {}', '{{"{}": [{}]}}')
        ).format(r.choice(pools.WORDS), r.randrange(100))
    },
)
def validate_json(text: str) -> bool:
    """Check whether a text is valid JSON.

    Args:
      text: Text to check.
    """
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@api(
    "Pretty-print the JSON {text}.",
    "Format {text} as readable JSON with {indent} spaces of indentation.",
    "Indent this JSON by {indent}: {text}",
    name="format_json",
    alike="json",
    give={
        "text": lambda r: json.dumps(
            {r.choice(pools.TAGS): r.randrange(90), r.choice(pools.WORDS): r.choice(pools.CITIES)}
        ),
        "indent": pick(3, 4, 8),
    },
    edge={"text": ["{name: 5}", "[1, 2"]},
)
def format_json(text: str, indent: int = 2) -> str:
    """Pretty-print JSON.

    Args:
      text: JSON to format.
      indent: Spaces of indentation.
    """
    return json.dumps(json.loads(text), indent=indent)


@api(
    "How many bytes does {text} take in {charset}?",
    "Size in bytes of {text} encoded as {charset}?",
    "byte length, charset {charset}: {text}",
    name="byteLength",
    give={"text": pools.phrase},
)
def byte_length(text: str, charset: Literal["UTF-8", "UTF-16", "UTF-32"] = "UTF-8") -> int:
    """Count the bytes of an encoded text.

    Args:
      text: Text to measure.
      charset: Character encoding.
    """
    return len(text.encode(charset))
