//! Codes of the configuration (area C).

super::codes! {
    SYNTAX = "MOAT-C001", 0, Operator,
        en: "The configuration is not valid YAML", "Correct the line shown.",
        zh: "配置不是有效的 YAML", "请修正所示行。";
    UNKNOWN_KEY = "MOAT-C002", 0, Operator,
        en: "The configuration has a key that does not exist", "Remove it, or use the key suggested; `moat schema` lists all.",
        zh: "配置中有不存在的键", "请删除或改用所建议的键；`moat schema` 列出全部。";
    WRONG_TYPE = "MOAT-C003", 0, Operator,
        en: "A value has the wrong type or form", "Write the value as the message says.",
        zh: "值的类型或形式不正确", "请按提示书写。";
    MISSING_KEY = "MOAT-C004", 0, Operator,
        en: "A required key is missing", "Add the key.",
        zh: "缺少必需的键", "请补上该键。";
    DUPLICATE_KEY = "MOAT-C005", 0, Operator,
        en: "A key or a name stands twice", "Keep one of the two.",
        zh: "键或名称重复", "请只保留其一。";
    UNREADABLE = "MOAT-C006", 0, Operator,
        en: "A file cannot be read", "Check the path and its permissions.",
        zh: "无法读取文件", "请检查路径及其权限。";
    DANGLING = "MOAT-C007", 0, Operator,
        en: "A name refers to nothing", "Declare what is named, or correct the name.",
        zh: "名称没有指向任何对象", "请声明所指对象或更正名称。";
    BAD_VALUE = "MOAT-C008", 0, Operator,
        en: "A value is outside what is allowed", "Choose a value within the bounds named.",
        zh: "值超出允许范围", "请在所示范围内取值。";
    CONFLICT = "MOAT-C009", 0, Operator,
        en: "Two settings contradict each other", "Change one of them as the message says.",
        zh: "两项设置相互矛盾", "请按提示修改其一。";
    LITERAL_SECRET = "MOAT-C014", 0, Operator,
        en: "A secret stands in the configuration itself", "Refer to it with `file:`, `env:` or `credential:`.",
        zh: "配置中直接写有机密", "请用 `file:`、`env:` 或 `credential:` 引用。";
    PROD_ONLY = "MOAT-C015", 0, Operator,
        en: "The prod profile does not allow this", "Change the setting, or use `profile: dev` outside production.",
        zh: "prod 配置档不允许此设置", "请修改设置；非生产环境可用 `profile: dev`。";
    TOO_LARGE = "MOAT-C016", 0, Operator,
        en: "The configuration is too large", "Keep it below the bound named.",
        zh: "配置过大", "请控制在所示上限以内。";
    NEEDS_RESTART = "MOAT-C017", 0, Operator,
        en: "This change needs a restart", "Restart `moat serve`; the running generation stays as it is.",
        zh: "此变更需要重启", "请重启 `moat serve`；当前运行的一代保持不变。";
    KEY_EXPOSED = "MOAT-C018", 0, Operator,
        en: "A private key can be read or written by others than its owner", "Take the rights away: chmod 600; `profile: prod` refuses to start before that.",
        zh: "私钥可被所有者以外的用户读取或写入", "请收回权限：chmod 600；`profile: prod` 下未收回则拒绝启动。";
    GIVEN_TWICE = "MOAT-C019", 0, Operator,
        en: "Two files of the configuration give the same thing", "Keep it in one of them; only lists are joined.",
        zh: "配置的两个文件给出了同一项", "只保留其中一处；仅列表会合并。";
}
