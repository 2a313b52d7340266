//! Codes of masking (area M).

super::codes! {
    NOT_JSON = "MOAT-M001", 400, Peer,
        en: "The body is not well-formed, and this route must read it", "Send one well-formed JSON document (RFC 8259), or a body of a kind that the route declares under `bodies`.",
        zh: "消息体格式不正确，而该路由必须读取它", "请发送一个格式正确的 JSON 文档（RFC 8259），或该路由在 `bodies` 中声明的类型。";
    TOO_DEEP = "MOAT-M002", 400, Peer,
        en: "The JSON document is nested too deeply", "Nest no deeper than 64 levels.",
        zh: "JSON 文档嵌套过深", "嵌套不得超过 64 层。";
    TOO_MANY_FIELDS = "MOAT-M003", 400, Peer,
        en: "The JSON document repeats audited fields too often", "Send fewer elements in one call.",
        zh: "JSON 文档中受审计字段重复过多", "请减少一次调用中的元素个数。";
    CONTENT_TYPE = "MOAT-M004", 415, Peer,
        en: "This route does not read bodies of this kind", "Send Content-Type: application/json, or another kind that the route declares under `bodies`, without Content-Encoding.",
        zh: "该路由不读取此类型的消息体", "请使用 Content-Type: application/json，或该路由在 `bodies` 中声明的类型，且不带 Content-Encoding。";
    ANSWER_NOT_JSON = "MOAT-M010", 502, Upstream,
        en: "The service's answer cannot be masked and is withheld", "The service must answer this route with well-formed JSON, or another kind declared under `bodies`, without Content-Encoding.",
        zh: "服务的应答无法脱敏，已扣留", "服务在该路由上必须应答未经编码的有效 JSON，或在 `bodies` 中声明的其他类型。";
    BAD_POINTER = "MOAT-M020", 0, Operator,
        en: "The field path is not a JSON pointer", "Write /a/b, /list/*/card or /**/card (RFC 6901, with * and **).",
        zh: "字段路径不是 JSON 指针", "写作 /a/b、/list/*/card 或 /**/card（RFC 6901，可用 * 与 **）。";
    BAD_STRATEGY = "MOAT-M021", 0, Operator,
        en: "There is no masking strategy of that name", "Use one of the names that docs/masking.md lists, for example bank_card, mobile, id_card, fixed, drop.",
        zh: "没有该名称的脱敏策略", "可用名称见 docs/masking.md，例如 bank_card、mobile、id_card、fixed、drop。";
}
