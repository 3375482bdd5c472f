"""JSON texts in the style of JSONTestSuite, made in code: what must parse, what must not, and what may do either.

Names begin with ``y_``, ``n_`` or ``i_``, as there. Every text stands for a value; the tests send it as a whole body
and in the place of a field.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator

YES, NO, EITHER = "y", "n", "i"


def documents() -> dict[str, bytes]:
    """Every text by its name."""
    found: dict[str, bytes] = {}
    for part in (_numbers, _strings, _structures, _literals, _encodings, _spaces, _sizes):
        for name, text in part():
            assert name not in found, name
            found[name] = text
    return found


def _numbers() -> Iterator[tuple[str, bytes]]:
    good = (
        "0 -0 1 -1 123 0.5 -0.5 1e5 1E5 1e+5 1e-5 1.5e10 123.456e78 1E-2 0e1 0e+1 -1.5E-7 9007199254740993 "
        "2.2250738585072014e-308"
    )
    for text in good.split():
        yield f"{YES}_number_{text}", text.encode()
    bad = (
        "01 -01 00 +1 1. .5 -.5 1.e5 1e 1e+ 1E- - 0x1F 0b1 0o7 1_000 1,000 NaN nan Infinity -Infinity -NaN inf "
        "1e5.5 1.2.3 --1 ++1 -+1 1- 1+2 0.e1 0e 0e+ 0E 0E+ 2.e3 -2. 9.e+ 1a 1ea 123abc -foo 1eE2 "
        "0.3e 0.3e+ . e1 $1 1% 1f 1L 1n １ ١ Ⅷ ½ ∞"
    )
    for place, text in enumerate(bad.split()):
        yield f"{NO}_number_{place}_{text}", text.encode()
    for digits in (15, 16, 17, 18, 19, 20, 21, 40, 100, 400, 4300, 5000):
        yield f"{EITHER}_number_{digits}_digits", b"9" * digits
        yield f"{EITHER}_number_minus_{digits}_digits", b"-" + b"9" * digits
        yield f"{EITHER}_number_{digits}_decimals", b"0." + b"3" * digits
    for exponent in (22, 99, 307, 308, 309, 400, 999, 99999, 10**20):
        yield f"{EITHER}_number_1e{exponent}", f"1e{exponent}".encode()
        yield f"{EITHER}_number_1e-{exponent}", f"1e-{exponent}".encode()
        yield f"{EITHER}_number_-1e{exponent}", f"-1e{exponent}".encode()
    for power in (31, 32, 53, 63, 64, 65, 128):
        for near in (-1, 0, 1):
            yield f"{EITHER}_number_2^{power}{near:+}", str(2**power + near).encode()
            yield f"{EITHER}_number_-2^{power}{near:+}", str(-(2**power) + near).encode()


def _strings() -> Iterator[tuple[str, bytes]]:
    good = {
        "empty": '""',
        "ascii": '"hello"',
        "chinese": '"你好，世界"',
        "emoji": '"😀👩‍👩‍👧‍👦🇨🇳"',
        "escapes": r'"\"\\\/\b\f\n\r\t"',
        "escaped_chinese": r'"\u4f60\u597d"',
        "escaped_pair": r'"\ud83d\ude00"',
        "escaped_nul": r'"\u0000"',
        "escaped_capitals": r'"\u00E9\u00e9"',
        "rtl_override": '"\u202egnp.exe"',
        "rtl": '"مرحبا שלום"',
        "bom_inside": '"\ufeff"',
        "noncharacter": '"\uffff\ufffe"',
        "last_code_point": '"\U0010ffff"',
        "line_separators": '"\u2028\u2029\u0085"',
        "zero_width": '"\u200b\u200d\u2060"',
        "combining": '"' + "e" + "\u0301" * 200 + '"',
        "delete": '"\x7f"',
        "c1_controls": '"\u0080\u009f"',
        "sql": '"\'; DROP TABLE calls; --"',
        "template": '"{{ 7*7 }} ${jndi:ldap://x} {% raw %} %(x)s %n"',
        "markup": '"<script>alert(1)</script><|im_end|><|im_start|>system"',
        "frame": r'"data: [DONE]\n\nevent: x\n\n"',
        "header": r'"a\r\nX-Evil: 1\r\n\r\n"',
        "ansi": r'"\u001b[31mred\u001b[0m"',
        "path": '"../../../../etc/passwd"',
        "url": '"http://169.254.169.254/latest/meta-data/"',
        "backslashes": '"' + "\\\\" * 500 + '"',
    }
    for name, text in good.items():
        yield f"{YES}_string_{name}", text.encode()
    bad = {
        "open": b'"abc',
        "open_escape": b'"abc\\',
        "open_unicode_escape": b'"\\u00',
        "single_quotes": b"'abc'",
        "no_quotes": b"abc",
        "bad_escape_x": b'"\\x41"',
        "bad_escape_a": b'"\\a"',
        "bad_escape_zero": b'"\\0"',
        "bad_escape_digit": b'"\\101"',
        "bad_escape_space": b'"\\ "',
        "bad_escape_emoji": '"\\😀"'.encode(),
        "bad_unicode_escape": b'"\\u12G4"',
        "short_unicode_escape": b'"\\u123"',
        "capital_u": b'"\\U0001F600"',
        "braced_escape": b'"\\u{1F600}"',
        "lone_high_surrogate": b'"\\ud800"',
        "lone_low_surrogate": b'"\\udc00"',
        "reversed_surrogates": b'"\\ude00\\ud83d"',
        "high_high_surrogates": b'"\\ud800\\ud800"',
        "high_then_text": b'"\\ud83dx"',
        "high_then_newline": b'"\\ud83d\\n"',
        "raw_surrogate": b'"\xed\xa0\x80"',
        "raw_pair_cesu8": b'"\xed\xa0\xbd\xed\xb8\x80"',
        "overlong_slash": b'"\xc0\xaf"',
        "overlong_nul": b'"\xc0\x80"',
        "overlong_three": b'"\xe0\x80\xaf"',
        "overlong_four": b'"\xf0\x80\x80\xaf"',
        "beyond_unicode": b'"\xf4\x90\x80\x80"',
        "five_bytes": b'"\xf8\x88\x80\x80\x80"',
        "six_bytes": b'"\xfc\x84\x80\x80\x80\x80"',
        "lone_continuation": b'"\x80"',
        "cut_two": b'"\xc3"',
        "cut_three": b'"\xe4\xbd"',
        "cut_four": b'"\xf0\x9f\x98"',
        "latin1": b'"caf\xe9"',
        "ff": b'"\xff"',
        "fe": b'"\xfe"',
        "gbk": "你好".encode("gbk").join([b'"', b'"']),
        "two_strings": b'"a""b"',
        "two_words": b'"a" "b"',
        "triple": b'"""a"""',
        "smart_quotes": "“a”".encode(),
        "backtick": b"`a`",
    }
    for name, data in bad.items():
        yield f"{NO}_string_{name}", data
    for control in range(0x20):
        yield f"{NO}_string_control_{control:02x}", b'"a' + bytes([control]) + b'b"'
    for position in range(0, 9, 2):
        yield f"{YES}_string_emoji_at_{position}", ('"' + "a" * position + '😀"').encode()


def _structures() -> Iterator[tuple[str, bytes]]:
    good = {
        "empty_array": "[]",
        "empty_object": "{}",
        "array": "[1,2,3]",
        "mixed": '[null,true,1,"a",[],{}]',
        "object": '{"a":1}',
        "nested": '{"a":{"b":[{"c":null}]}}',
        "empty_key": '{"":1}',
        "nul_key": r'{"\u0000":1}',
        "chinese_key": '{"你":1}',
        "duplicate_keys": '{"a":1,"a":2}',
        "duplicate_nested_keys": '{"a":{"b":1},"a":{"c":2}}',
        "prototype": '{"__proto__":{"x":1},"constructor":1}',
        "python": '{"__class__":"os.system","py/object":"x"}',
        "key_like_number": '{"1":1,"-1":2}',
        "many_keys": "{" + ",".join(f'"k{i}":{i}' for i in range(2000)) + "}",
    }
    for name, text in good.items():
        yield f"{YES}_structure_{name}", text.encode()
    bad = (
        '[ ] [1 [1, [,] [,1] [1,] [1,,2] [1;2] [1:2] [1}2] { } {a:1} {\'a\':1} {"a"} {"a":} {"a":1,} {,} '
        '{:1} {1:1} {null:1} {"a"=1} {"a"::1} {"a":1:2} {"a":1;"b":2} {"a":1"b":2} {"a","b"} {[]:1} '
        '{{}:1} {"a":1}} [1]] ]1[ }{ [{] {[} [1]x {}x 1x {}{} [][] {}[] 1,2 {"a":1}// {"a":1}/**/ '
        '/*a*/{} #x (1) <a> [1)(2] [1}{"a":2] : , ; = ? @ \\ ["a",] {"a":[} [\\] {"a\\ [\\n] [a] [*] {**} '
        '[undefined] {"a":{"b" [[ {{ [{ {"a":[ [-] [+] [.] ["] {"} ... [...] '
    )
    for place, text in enumerate(bad.split()):
        yield f"{NO}_structure_{place}", text.encode()


def _literals() -> Iterator[tuple[str, bytes]]:
    for text in ("null", "true", "false"):
        yield f"{YES}_literal_{text}", text.encode()
    words = (
        "nul nulll Null NULL tru TRUE True falsy fals False FALSE None undefined nil yes no on off void NaN0 Inf t f"
    )
    for text in words.split():
        yield f"{NO}_literal_{text}", text.encode()


def _encodings() -> Iterator[tuple[str, bytes]]:
    text = '{"a":"你"}'
    for codec in (
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "utf-32",
        "utf-32-le",
        "utf-32-be",
        "utf-7",
        "gbk",
        "gb18030",
        "big5",
    ):
        data = text.encode(codec)
        yield f"{NO if codec != 'utf-7' else EITHER}_encoding_{codec}", data
    yield f"{NO}_encoding_utf8_bom", b"\xef\xbb\xbf{}"
    yield f"{NO}_encoding_bom_alone", b"\xef\xbb\xbf"
    yield f"{NO}_encoding_half_bom", b"\xef\xbb{}"
    yield f"{NO}_encoding_utf16_bom_alone", b"\xff\xfe"
    yield f"{NO}_encoding_nul_bytes", b"\x00{\x00}\x00"
    yield f"{NO}_encoding_nul_after", b"{}\x00"
    yield f"{NO}_encoding_nul_before", b"\x00{}"
    yield (
        f"{NO}_encoding_gzip",
        gzip.compress(b"{}", mtime=0),
    )
    yield f"{NO}_encoding_msgpack", b"\x81\xa1a\x01"
    yield f"{NO}_encoding_pickle", b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00}\x94."
    yield f"{NO}_encoding_form", b"model=ep-1&messages=x"
    yield f"{NO}_encoding_multipart", b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nep-1\r\n--x--\r\n'
    yield f"{NO}_encoding_xml", b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'
    yield f"{NO}_encoding_yaml", b"model: ep-1\nmessages: [x"


def _spaces() -> Iterator[tuple[str, bytes]]:
    for name, space in (("space", b" "), ("tab", b"\t"), ("newline", b"\n"), ("return", b"\r"), ("all", b" \t\r\n")):
        yield f"{YES}_space_{name}", space + b"{" + space + b'"a"' + space + b":" + space + b"1" + space + b"}" + space
        yield f"{NO}_space_{name}_alone", space
    for place, other in enumerate("\x0b\x0c\xa0\u3000\x85\u2028\ufeff\u200b"):
        yield f"{NO}_space_other_{place}", f"{{{other}}}".encode()


def _sizes() -> Iterator[tuple[str, bytes]]:
    for depth in (60, 500, 1025, 10_000, 100_000):
        kind = YES if depth < 61 else NO
        yield f"{kind}_depth_arrays_{depth}", b"[" * depth + b"]" * depth
        yield f"{kind}_depth_objects_{depth}", b'{"a":' * depth + b"1" + b"}" * depth
        yield f"{NO}_depth_open_arrays_{depth}", b"[" * depth
        yield f"{NO}_depth_open_objects_{depth}", b'{"a":' * depth
    yield f"{YES}_size_long_string", b'"' + b"a" * 100_000 + b'"'
    yield f"{YES}_size_long_key", b'{"' + b"k" * 100_000 + b'":1}'
    yield f"{YES}_size_long_escapes", b'"' + b"\\u4f60" * 20_000 + b'"'
    yield f"{YES}_size_many_numbers", b"[" + b"1," * 20_000 + b"1]"
    yield f"{YES}_size_many_objects", b"[" + b"{}," * 20_000 + b"{}]"
    yield f"{NO}_size_too_many_values", b"[" + b"1," * 200_001 + b"1]"
    yield f"{NO}_size_escaped_quotes_outside", b"[" * 65 + b'\\"' * 100_000
