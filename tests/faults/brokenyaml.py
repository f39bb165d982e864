"""Texts that are not YAML as it is read here, by what is wrong with them."""

from __future__ import annotations

from broken import MINIMAL, MODEL, Broken

BROKEN_YAML: dict[str, list[Broken]] = {
    "the file as a text": [
        Broken("latin-1", b"name: caf\xe9\n", "1:10: this byte is not UTF-8: 0xe9"),
        Broken("torn-utf-16", b"\xff\xfea", "1:1: this byte is not UTF-16: 0x61"),
        Broken("bell", "name: \x07\n", "1:7: the character U+0007 cannot be shown"),
        Broken("null-character", "name: x\x00\n", "1:8: the character U+0000 cannot be shown"),
        Broken("line-separator", "name: a\u2028b\n", "1:8: the character U+2028 cannot be shown"),
        Broken("escape-character", "name: \x1b[31mred\n", "1:7: the character U+001B cannot be shown"),
        Broken("too-long", "#" * 1_000_001, "1:1: this text has 1,000,001 characters; the limit is 1,000,000"),
        Broken(
            "half-a-surrogate-pair",
            'name: "\\ud83d"\n' + MINIMAL,
            "1:7: 'name' must be letters, digits, '-' and '_', at most 100 of them, not the text '�'",
            "1:7: this text holds half of a surrogate pair",
        ),
    ],
    "signs and quotes": [
        Broken("tab-for-indentation", "data:\n\tdataset: digits\n", "2:1: a tab stands where only spaces may"),
        Broken("tab-before-a-comment", "seed: 1\t# one\n", "1:8: a tab stands where only spaces may"),
        Broken("at-sign", "name: @home\n", "1:7: plain text cannot start with '@'"),
        Broken("percent-sign", "name: %x\n", "1:7: plain text cannot start with '%'"),
        Broken("backtick", "name: `x`\n", "1:7: plain text cannot start with '`'"),
        Broken("lone-star", "name: *\n", "1:7: '*' starts an alias or an anchor, and its name is missing"),
        Broken("lone-ampersand", "name: &\n", "1:7: '&' starts an alias or an anchor, and its name is missing"),
        Broken("star-pattern", "layers: *.weight\n", "1:9: '*' starts an alias or an anchor, and its name is missing"),
        Broken("question-mark", "name: ? b\n", "1:7: '?' has a meaning of its own here"),
        Broken("quote-never-closed", "name: 'x\nseed: 2\n", "1:7: this quote is never closed"),
        Broken("double-quote-never-closed", 'seed: 3\nname: "x\n', "2:7: this quote is never closed"),
        Broken("unknown-escape", 'name: "C:\\data"\n', "1:11: '\\' starts an unknown escape"),
        Broken("torn-hexadecimal-escape", 'name: "\\xzz"\n', "1:10: '\\' starts an unknown escape"),
        Broken("character-too-large", 'name: "\\UFFFFFFFF"\n', "1:10: this number is too large here"),
        Broken("left-over-after-a-quote", 'name: "x" y\n', "1:11: something is left over after the value"),
        Broken("left-over-after-a-bracket", "a: [1], b: 2\n", "1:7: something is left over after the value"),
        Broken("text-block-on-its-own-line", "name: |x\n", "1:8: a text block starts on the line after its '|' or '>'"),
    ],
    "brackets": [
        Broken("bracket-never-closed", "hidden: [1, 2", "1:9: this bracket is never closed"),
        Broken("brace-never-closed", "data: {dataset: digits", "1:7: this bracket is never closed"),
        Broken("comma-missing", "hidden: [1, 2\nseed: 3\n", "2:5: a ',' or ']' is missing before this"),
        Broken(
            "comma-missing-in-braces", "data: {dataset: digits\nseed: 3\n", "2:5: a ',' or '}' is missing before this"
        ),
        Broken("stray-bracket", "a: ]\n", "1:4: a value is missing before this"),
        Broken("stray-bracket-on-a-line", "a: [1 2]\n]\n", "2:1: a stray ']'"),
        Broken("stray-brace", "a: [1 2]\n}\n", "2:1: a stray '}'"),
        Broken("comma-first", "a: [, 1]\n", "1:5: a value is missing before this"),
    ],
    "lines and indentation": [
        Broken(
            "does-not-line-up",
            "data:\n  dataset: digits\n model: 2\n",
            "3:2: this does not line up with what stands above",
        ),
        Broken("first-key-indented", " name: x\nseed: 2\n", "2:1: this does not line up with what stands above"),
        Broken("list-beside-mapping", "- a\nb: 1\n", "2:1: a list and a mapping cannot share a column"),
        Broken("list-on-the-key-line", "a: - b\n", "1:4: a list cannot start here"),
        Broken(
            "continued-line-with-a-key",
            "name: x\n  seed: 2\n",
            "2:7: this line goes on with the text of line 1, so it cannot hold a key",
        ),
        Broken("key-without-a-colon", "name: x\nseed\ndata: 2\n", "2:1: a ':' is missing here"),
        Broken(
            "no-space-after-the-colon", "data:\n  limit:5\n  batch_size: 2\n", "2:3: a space is missing after the colon"
        ),
        Broken("no-key-before-the-colon", ": x\n", "1:1: a key is missing before this ':'"),
        Broken("endless-key", "x" * 1100 + ": 1", "1:1101: a key is missing before this ':'"),
        Broken("two-keys-on-a-line", "a: b: c\n", "1:5: a second key on the same line"),
        Broken(
            "key-text-then-key",
            "key\n\nother: 1\n",
            "3:6: this line goes on with the text of line 1, so it cannot hold a key",
        ),
        Broken("line-that-starts-nothing", "key\n# c\nother: 1\n", "3:1: this does not line up with what stands above"),
    ],
    "documents, tags and directives": [
        Broken("second-document", "name: x\n---\nname: y\n", "2:1: a second document starts here"),
        Broken("directive-of-another-version", "%YAML 2.0\n---\n1\n", "1:1: this is not a directive of YAML"),
        Broken("unknown-directive", "%x", "1:3: this is not a directive of YAML"),
        Broken("version-too-large", "%YAML 1." + "9" * 5000, "1:9: this number is too large here"),
        Broken(
            "tag-that-runs-code",
            MINIMAL + "loss: !!python/object/apply:os.system [ls]\n",
            "3:7: tags are not used here: !!python/object/apply:os.system",
            "3:39: 'loss' must be the name of a loss, or a mapping with a name, not a list",
        ),
        Broken("tag-of-a-number", MINIMAL + "seed: !!int 3\n", "3:7: tags are not used here: !!int"),
        Broken("undeclared-tag-handle", "a: !e!x 1\n", "1:4: tags are not used here"),
        Broken("torn-tag", "a: !<x\n", "1:7: tags are not used here"),
        Broken("tag-without-a-name", MINIMAL + "seed: ! 1\n", "3:7: tags are not used here: !"),
    ],
    "keys": [
        Broken("key-given-twice", MINIMAL + "seed: 1\nseed: 2\n", "4:1: key 'seed' given twice"),
        Broken(
            "key-given-twice-below",
            "data: {dataset: digits, limit: 3, limit: 4}\n" + MODEL,
            "1:35: key 'limit' given twice",
        ),
        Broken("number-as-a-key", MINIMAL + "3: 4\n", "3:1: unknown key '3'", "3:1: a key must be text, and 3 is not"),
        Broken(
            "true-as-a-key",
            MINIMAL + "true: 4\n",
            "3:1: unknown key 'true'",
            "3:1: a key must be text, and true is not",
        ),
        Broken(
            "nothing-as-a-key",
            MINIMAL + "? \n: 4\n",
            "3:2: unknown key ''",
            "3:2: a key must be text, and nothing is not",
        ),
        Broken("list-as-a-key", MINIMAL + "? [a]\n: 1\n", "3:3: a key must be text"),
        Broken(
            "merge-key-given-twice",
            "a: &a {dataset: digits}\ndata:\n  <<: *a\n  <<: *a\n",
            "1:1: missing required key 'model.architecture'",
            "1:1: unknown key 'a'",
            "4:3: key '<<' given twice",
        ),
        Broken(
            "merge-of-a-number", MINIMAL + "training:\n  <<: 3\n", "4:7: '<<' takes a mapping, or a list of mappings"
        ),
    ],
    "aliases and depth": [
        Broken("unknown-alias", "name: *base\n", "1:7: unknown alias '*base'"),
        Broken("alias-of-itself", "data: &d [*d]\n", "1:11: '*d' would contain itself"),
        Broken(
            "bomb",
            "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
            + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)),
            "4:36: aliases repeat more than 10,000 values",
        ),
        Broken("deep-brackets", "a: " + "[" * 60, "1:53: more than 50 levels of nesting"),
        Broken(
            "deep-by-aliases",
            "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 60)),
            "50:12: more than 50 levels of nesting",
        ),
        Broken(
            "endless-integer",
            MINIMAL + "seed: " + "9" * 5000,
            "3:7: 'seed' must be a whole number, not the text '9999999999999999999999999999999999999...'",
            "3:7: this integer has too many digits",
        ),
    ],
    "the root": [
        Broken("empty", "", "1:1: there is no experiment here"),
        Broken("list-at-the-root", "- data\n", "1:1: an experiment is a mapping of sections, not a list"),
        Broken("text-at-the-root", "hello", "1:1: an experiment is a mapping of sections, not a single value"),
    ],
}
