"""Real text to compare models on when a run brings none, and the texts on which tokenizers part ways."""

__all__ = ["SAMPLE_TEXTS", "TOKENIZER_TEXTS"]

SAMPLE_TEXTS = (
    "The capital of France is Paris, which lies on the Seine. The river rises on the plateau of Langres, passes Troyes, is joined"
    " by the Marne just above the city and by the Oise below it, and reaches the sea at Le Havre after some 775 kilometres.",
    "When a liquid is heated, its molecules move faster; those at the surface with enough energy leave it. A puddle therefore dries"
    " without ever boiling. Wind carries the vapour away, so laundry dries sooner on a windy day than on a still one.",
    'def merge(left: list[int], right: list[int]) -> list[int]:\n    """Merge two sorted lists into one."""\n    merged = []\n'
    "    while left and right:\n        smaller = left if left[0] <= right[0] else right\n        merged.append(smaller.pop(0))\n"
    "    return merged + left + right\n\n\nprint(merge([1, 4, 9], [2, 3, 10]))  # [1, 2, 3, 4, 9, 10]\n",
    "#include <stdio.h>\n\nint main(void) {\n    for (int i = 1; i <= 15; i++)\n"
    '        printf(i % 15 ? i % 5 ? i % 3 ? "%d\\n" : "Fizz\\n" : "Buzz\\n" : "FizzBuzz\\n", i);\n    return 0;\n}\n',
    "# Changes\n\n- **1.2.0** (2021-04-30): `read` takes a *path* or a file; see [the guide](https://example.org/guide).\n"
    "- 1.1.3: fixed rounding of 0.1 + 0.2 = 0.30000000000000004\n\n| size | seconds |\n|---:|---:|\n| 1024 | 0.25 |\n| 4096 | 4.13 |\n",
    "Die Würde des Menschen ist unantastbar. Sie zu achten und zu schützen ist Verpflichtung aller staatlichen Gewalt."
    " Все люди рождаются свободными и равными. 人人生而自由,在尊严和权利上一律平等。",
)

# Indentation of every depth, tabs, line ends, spaces at either end, runs of signs; scripts without spaces, joined emoji, combining marks.
TOKENIZER_TEXTS = (
    *SAMPLE_TEXTS,
    "class Tree:\n"
    + "".join(f"{' ' * depth}if x{depth}:  # {'#' * depth}\n{' ' * (depth + 1)}y  =   {10**depth}\n" for depth in range(1, 33)),
    "\tif (a\t== b) {\n\t\t  return;\n\t}\n\n\n\n   \n# ----------------\n",
    "first line\r\n\r\n  second line \r\n",
    "  begins with two spaces and ends with one ",
    "\n\nbegins with line ends",
    "   ",
    "x",
    "日本語の文章には空白がありません。変数名をそのまま使います。\u3000全角の空白。",
    "def 计算(值):\n    return 值 * 2  # 返回两倍\n한국어 주석도 있습니다\n",
    "مرحبا بالعالم שלום עולם नमस्ते दुनिया สวัสดีชาวโลก",
    "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 ﬁ ½ ① Ⅷ \u00a0\u200b\u2028 😀😀😀",
    "0xDEADBEEF 1_000_000 3.14159e-10 v2.0.0-rc.1 <br/> &nbsp; \\n C:\\Users\\x https://a.b/c?d=e&f=%20g",
)
