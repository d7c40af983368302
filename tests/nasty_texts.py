"""Texts on which tokenizers differ where they can: scripts, marks, white space, control characters, casing, length."""

from __future__ import annotations

FRAGMENTS = (
    "the cat sat on the mat",
    "The CAT SAT on The Mat",
    "calculus is a branch of math",
    "don't can't it's we'll they've I'M",
    "e-mail co-op 3.14 1,000,000 50% $5 #1 @home a/b c\\d",
    "!!! ??? ... --- *** ((())) [[]] {{}} <<>> ``''",
    "été naïve Zürich ÅNGSTRÖM ñandú",
    "e\u0301te\u0301 n\u0303 Z\u0308 a\u0300\u0301\u0302",
    "İstanbul ışık ẞtraße ﬁne ﬂy ſ Ǆ ǅ",
    "ΑΒΓ αβγς ΠΆΝΤΑ Привет МИР ёЁйЙ",
    "東京 北京大学 你好世界 中文",
    "东a京b1 漢字かなカナ ｶﾅ ＦＵＬＬ　ｗｉｄｔｈ",
    "한국어 조선말 \u1112\u1161\u11ab",
    "مرحبا بالعالم שלום עולם हिन्दी ไทย",
    "😀 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇫🇷 ❤️ ☃",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𠀀𠮷 \U0010ffff",
    "a\u00adb a\u200bb a\u200db a\u2060b a\ufeffb",
    "a\u202eb\u202c \u2066x\u2069 \u061c",
    "tab\tnew\nline\r\ncarriage\rform\fvertical\vend",
    "no\u00a0break em\u2003space thin\u2009space ideo\u3000graphic line\u2028para\u2029next\u0085",
    "nul\x00bell\x07esc\x1b[0m del\x7f c1\x80\x9f",
    "private \ue000 noncharacter \ufffe \uffff replacement \ufffd",
    "x" * 99,
    "x" * 101,
    "cat" * 150,
    "東" * 120,
    "http://example.org/a?b=c&d=e#f user@example.org C:\\dir",
    "²³¼½ ①② Ⅳ ㎏ ℃ ™ № … – — ‘’ “” « »",
    "▁the ▁ cat__ _ Ġthe ##ing ## #",
    "<s> </s> <pad> <unk> [CLS] [SEP] [PAD] [UNK]",
    "<S> [cls] [sep ] < pad > [UNK][UNK] <s></s>",
    "the <mask> sat <mask>. <mask>on<mask> <MASK>",
    "<mask>",
    "i",
    ".",
    "0",
    "é",
    "東",
    "😀",
)
EMPTY_LOOKING = ("", " ", "   ", "\t\n", "\u00a0", "\u3000", "\u200b", "\x00", "\ufeff", "\u0301", "\u00ad", "\u200d")
FRAMES = ("{}", " {}", "{} ", "  {}\n", "a{}", "{}b", "The {} cat.", "{0} {0}")

NASTY_TEXTS = tuple(dict.fromkeys([*EMPTY_LOOKING, *(frame.format(part) for part in FRAGMENTS for frame in FRAMES)]))
NASTY_PAIRS = tuple(zip(NASTY_TEXTS, NASTY_TEXTS[7:] + NASTY_TEXTS[:7], strict=True))
