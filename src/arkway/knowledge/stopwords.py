"""Words that say nothing about what a question is about. A change of this list is a change of the analyzer."""

from __future__ import annotations

from typing import Final

_CHINESE: Final = """
的 了 在 是 我 有 和 就 不 人 都 一 一个 也 很 到 说 要 去 你 会 着 没有 看 好 自己 这 那 它 他 她 们 我们 你们 他们
她们 它们 咱们 这个 那个 这些 那些 这里 那里 这样 那样 这么 那么 哪 哪个 哪些 哪里 哪儿 什么 怎么 怎样 怎么样 如何
为什么 为何 为 何 谁 几 多少 吗 呢 吧 啊 呀 哦 嗯 嘛 哈 啦 与 及 或 或者 以及 并 并且 而 而且 但 但是 可是 不过 然而
因为 所以 因此 由于 如果 假如 若 则 虽然 即使 只要 只有 除了 对 对于 关于 把 被 让 使 给 从 由 向 往 于 以 用 按 按照
根据 通过 之 其 其中 此 该 各 每 某 等 等等 中 里 上 下 内 外 前 后 时 时候 之后 之前 以后 以前 还 还是 还有 又 再 才
只 仅 更 最 太 非常 可 可以 能 能够 应 应该 应当 需要 必须 想 想要 得 地 过 来 起来 出来 做 进行 请 请问 告诉 帮 帮我
一下 一些 一种 一样 已 已经 正在 将 将要 曾 同 跟 比 像 如 例如 比如 即 也是 就是 不是 是否 有关 有没有 是不是 能不能
可不可以 介绍 个 种 些 位 次 件 您 本 当 当前 所 所有 任何 另 另外 其他 其它 有些 有的 没 无 别 不要 不能 不会 究竟
到底 一般 通常 意思
你好 您好 大家好 谢谢 多谢 再见 拜拜 哈哈 哈哈哈
"""

_ENGLISH: Final = """
a an the and or but if then else of to in on at by for from with without into onto over under about as is are was were
be been being am do does did doing done have has had having can could will would shall should may might must i me my
mine we us our ours you your yours he him his she her hers it its they them their theirs this that these those there
here what which who whom whose when where why how all any both each few more most other some such no nor not only own
thanks thank bye same so than too very just also please tell s t re ve ll d m don doesn didn isn aren wasn weren hello
hi hey
"""

STOP_WORDS: Final = frozenset((_CHINESE + _ENGLISH).split())
