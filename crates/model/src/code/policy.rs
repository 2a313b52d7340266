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
        en: "The policy's answer has a wrong type", "`allow` is a boolean or a set of reason ids, `deny` a set of reason ids.",
        zh: "策略结论的类型不正确", "`allow` 为布尔值或理由 ID 集合，`deny` 为理由 ID 集合。";
    CHALLENGED = "MOAT-P008", 403, Operator,
        en: "The policy asks for a challenge, and none is configured", "No challenge method is configured, so the call is refused.",
        zh: "策略要求质询，但未配置质询方式", "未配置任何质询方式，因此拒绝调用。";
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
}
