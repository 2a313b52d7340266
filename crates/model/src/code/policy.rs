//! Codes of policy decisions (area P).

super::codes! {
    DENIED = "MOAT-P001", 403, Peer,
        en: "The policy denies this call", "The reasons are listed; `moat policy why` shows the rules behind them.",
        zh: "策略拒绝此调用", "理由已列出；用 `moat policy why` 查看相应规则。";
    NOT_ALLOWED = "MOAT-P002", 403, Peer,
        en: "No rule allows this call", "Add an allow rule for it, or call what is allowed.",
        zh: "没有允许此调用的规则", "为其添加 allow 规则，或改用被允许的调用。";
    UNDEFINED = "MOAT-P003", 403, Operator,
        en: "The policy gives no answer for this call", "`allow` was undefined: begin the package with `default allow := false`.",
        zh: "策略对此调用没有结论", "`allow` 未定义：请在包首写 `default allow := false`。";
    ERROR = "MOAT-P004", 403, Operator,
        en: "The policy failed while deciding", "Run `moat policy eval` with the same input; a rule has a type or conflict error.",
        zh: "策略在决策时出错", "用同一输入运行 `moat policy eval`；某规则有类型或冲突错误。";
    TIMEOUT = "MOAT-P005", 403, Operator,
        en: "The policy took too long to decide", "Turn rules into data tables, or avoid nested loops.",
        zh: "策略决策超时", "将规则改为数据表，或避免嵌套循环。";
    MISSING_PACKAGE = "MOAT-P006", 403, Operator,
        en: "The route's policy package does not exist", "Name a package of the bundle in the route's `policy`.",
        zh: "路由所指的策略包不存在", "在路由的 `policy` 中写入策略包内的包名。";
    BAD_ANSWER = "MOAT-P007", 403, Operator,
        en: "The policy's answer has a wrong type", "docs/policy.md says what `allow`, `deny`, `challenge` and `obligations` may be.",
        zh: "策略结论的类型不正确", "`allow`、`deny`、`challenge`、`obligations` 的格式见 docs/policy.md。";
    CHALLENGED = "MOAT-P008", 403, Operator,
        en: "The policy asks for a proof that cannot be given here", "Persons need `tokens` and the route's `token`; machines need a registered key under `step_up.keys`.",
        zh: "策略要求的证明在此无法提供", "人员需要 `tokens` 与路由的 `token`；机器需要在 `step_up.keys` 中登记密钥。";
    BAD_MODULE = "MOAT-P010", 0, Operator,
        en: "A policy module does not compile", "Correct the module at the place named.",
        zh: "策略模块无法编译", "请修正所指位置。";
    BAD_DATA = "MOAT-P011", 0, Operator,
        en: "A policy data file is not a JSON object", "Write one JSON object a file.",
        zh: "策略数据文件不是 JSON 对象", "每个文件写一个 JSON 对象。";
    FORBIDDEN_BUILTIN = "MOAT-P012", 0, Operator,
        en: "The policy calls a function that Moat does not allow", "A decision must depend on its input alone; remove the call.",
        zh: "策略调用了 Moat 不允许的函数", "决策只可取决于输入；请删除该调用。";
    SHADOWED_RULE = "MOAT-P013", 0, Operator,
        en: "A data path hides a rule", "Rename the data; it would silently replace the rule.",
        zh: "数据路径遮蔽了规则", "请重命名数据；否则它会悄然取代该规则。";
    CHALLENGE = "MOAT-P020", 401, Peer,
        en: "The policy asks for a further proof first", "WWW-Authenticate says which; send the call again with it.",
        zh: "策略要求先提供进一步证明", "所需证明见 WWW-Authenticate；请附上后重发。";
    CHALLENGE_FAILED = "MOAT-P021", 401, Peer,
        en: "The answer to the challenge is wrong", "Sign the new nonce over this very call, on the connection that it came on, with a key registered for the caller.",
        zh: "对质询的应答不正确", "请在同一连接上用为调用方登记的密钥，对同一调用与新的随机数签名。";
    CHALLENGE_EXPIRED = "MOAT-P022", 401, Peer,
        en: "The answer to the challenge came too late", "Answer within 60 s, or sign the new nonce.",
        zh: "对质询的应答已超时", "请在 60 秒内应答，或对新的随机数签名。";
    CHALLENGE_REPLAYED = "MOAT-P023", 401, Peer,
        en: "The answer to the challenge was used before", "Each nonce is good for one call: sign the new one.",
        zh: "对质询的应答已被使用过", "每个随机数只用于一次调用：请对新的随机数签名。";
    STRUCK_OUT = "MOAT-P024", 403, Peer,
        en: "Too many wrong answers to challenges", "Three within five minutes; no challenge is taken until these are over.",
        zh: "对质询的错误应答过多", "五分钟内达三次；期满之前不再接受质询应答。";
    UNBINDABLE = "MOAT-P025", 403, Operator,
        en: "A challenge is asked for a call whose body streams", "Set `hold: true` on the route, so that the signature can cover the body.",
        zh: "质询所针对的调用其消息体为流式", "请在路由上设 `hold: true`，使签名能够覆盖消息体。";
    EXHAUSTED = "MOAT-P026", 403, Operator,
        en: "The policy asks again for what was proved", "Let `challenge` look at `input.step_up.state`.",
        zh: "策略再次要求已提供的证明", "请让 `challenge` 规则判断 `input.step_up.state`。";
    OVER_BUDGET = "MOAT-P027", 429, Peer,
        en: "The caller has used up a budget that the policy sets", "Wait; the reason names the budget.",
        zh: "调用方已用尽策略设定的额度", "请稍候；理由中注明额度名称。";
    NO_PLAN = "MOAT-P028", 403, Operator,
        en: "The policy asks for masks that the route does not have", "Declare the plan under the route's `mask_plans`, on a route whose answers are JSON.",
        zh: "策略要求的脱敏方案未在路由中声明", "请在应答为 JSON 的路由的 `mask_plans` 中声明该方案。";
    BUDGETS_FULL = "MOAT-P029", 503, Operator,
        en: "No more budgets can be counted", "Set fewer limits, or shorter windows.",
        zh: "无法统计更多额度", "请减少限额数量或缩短窗口。";
    BUNDLE_UNSIGNED = "MOAT-P030", 0, Operator,
        en: "The policy bundle is not signed as it must be", "Sign it with `moat policy bundle sign` by a key of `policy.signed.keys`, once for each algorithm.",
        zh: "策略包未按要求签名", "请用 `policy.signed.keys` 中的密钥以 `moat policy bundle sign` 签名，每种算法各一次。";
    BAD_SIGNATURE = "MOAT-P031", 0, Operator,
        en: "A signature of the policy bundle is wrong", "Take the bundle from its maker again; it was changed or signed by another key.",
        zh: "策略包的签名错误", "请重新从制作者处获取；其内容已被更改或由其他密钥签名。";
    BUNDLE_FILES = "MOAT-P032", 0, Operator,
        en: "The policy bundle's files are not those that were signed", "Take the bundle from its maker again: no file more, fewer or changed.",
        zh: "策略包的文件与签名时不符", "请重新从制作者处获取：文件不得增、减或更改。";
    BAD_MANIFEST = "MOAT-P033", 0, Operator,
        en: "The policy bundle's manifest is missing or malformed", "Make it with `moat policy bundle build`.",
        zh: "策略包清单缺失或格式错误", "请用 `moat policy bundle build` 生成。";
    BUNDLE_SCOPE = "MOAT-P034", 0, Operator,
        en: "The policy bundle is for another tenant or purpose", "Use the bundle that `policy.signed` names.",
        zh: "策略包属于其他租户或用途", "请使用 `policy.signed` 所指定的策略包。";
    BUNDLE_ROLLBACK = "MOAT-P035", 0, Operator,
        en: "The policy bundle's version was passed already", "To go back, sign the old content as a new, higher version.",
        zh: "策略包版本低于已启用的版本", "如需回退，请将旧内容以更高的新版本重新签名。";
    BUNDLE_FROZEN = "MOAT-P036", 0, Operator,
        en: "The policy bundle's time is over", "Get a newer bundle; the manifest's `not_after_s` has passed.",
        zh: "策略包已过期", "请获取更新的策略包；清单中的 `not_after_s` 已过。";
    SELF_TEST = "MOAT-P037", 0, Operator,
        en: "The policy bundle does not decide as its own tests say", "Correct rules or tests; `moat policy test` and `.golden.json` say what is expected.",
        zh: "策略包的决策与其自带测试不符", "请修正规则或测试；期望结果见 `moat policy test` 与 `.golden.json`。";
    BUNDLE_REQUIRES = "MOAT-P038", 0, Operator,
        en: "The policy bundle is for another version of Moat", "Use a bundle whose manifest allows this version under `moat`.",
        zh: "策略包适用于其他版本的 Moat", "请使用清单中 `moat` 允许此版本的策略包。";
    CUT_POLICY = "MOAT-P039", 403, Peer,
        en: "The policy would not allow this stream any more", "The record's reasons say why: the policy, the generation or the risk has changed since it began.",
        zh: "策略已不再允许此数据流", "原因见记录：自其开始以来，策略、配置代次或风险已变化。";
    POLICY_OVER = "MOAT-P040", 503, Operator,
        en: "The policy bundle in force has passed its time", "Activate a newer bundle; nothing is decided by one after its `not_after_s`.",
        zh: "现行策略包已过有效期", "请启用更新的策略包；超过 `not_after_s` 后不再据其作出决策。";
}
