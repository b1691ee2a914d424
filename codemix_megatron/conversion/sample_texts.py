"""Real text to compare models on when a run brings none: prose, code, markup, numbers, other scripts."""

__all__ = ["SAMPLE_TEXTS"]

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
