//! Codes of HTTP decoding (area H). Sources: RFC 9110, RFC 9112, RFC 9113.

super::codes! {
    BOTH_FRAMINGS = "MOAT-H001", 400, Peer,
        en: "Content-Length and Transfer-Encoding in one message", "Send one of them (RFC 9112 §6.1).",
        zh: "同一消息含 Content-Length 与 Transfer-Encoding", "只发送其中之一（RFC 9112 §6.1）。";
    CONTENT_LENGTH = "MOAT-H002", 400, Peer,
        en: "Content-Length is repeated or is not a plain decimal number", "Send exactly one, digits only (RFC 9112 §6.3).",
        zh: "Content-Length 重复或不是十进制数", "只发送一个，且仅含数字（RFC 9112 §6.3）。";
    TRANSFER_ENCODING = "MOAT-H003", 400, Peer,
        en: "Transfer-Encoding does not end in exactly one `chunked`", "Send `Transfer-Encoding: chunked`, in HTTP/1.1 only.",
        zh: "Transfer-Encoding 未以恰好一个 chunked 结尾", "发送 `Transfer-Encoding: chunked`，且仅限 HTTP/1.1。";
    UNKNOWN_CODING = "MOAT-H004", 501, Peer,
        en: "The transfer coding is not known here", "Use chunked alone.",
        zh: "未知的传输编码", "仅使用 chunked。";
    BARE_CR_LF = "MOAT-H005", 400, Peer,
        en: "A bare CR, bare LF or NUL in the message head", "End every line with CR LF (RFC 9112 §2.2).",
        zh: "消息头中有单独的 CR、LF 或 NUL", "每行以 CR LF 结尾（RFC 9112 §2.2）。";
    FOLDED_LINE = "MOAT-H006", 400, Peer,
        en: "A folded header line", "Put each field on one line (RFC 9112 §5.2).",
        zh: "消息头含折行", "每个字段写在一行内（RFC 9112 §5.2）。";
    HOST = "MOAT-H007", 400, Peer,
        en: "Host is missing, repeated or differs from the target", "Send exactly one Host that names the target (RFC 9112 §3.2).",
        zh: "Host 缺失、重复或与目标不符", "只发送一个与目标相符的 Host（RFC 9112 §3.2）。";
    BAD_CHUNK = "MOAT-H008", 400, Peer,
        en: "A chunk is malformed", "Write chunk sizes as hexadecimal digits, each line ended by CR LF (RFC 9112 §7.1).",
        zh: "分块格式错误", "分块长度用十六进制数字，行尾为 CR LF（RFC 9112 §7.1）。";
    HEAD_TOO_LONG = "MOAT-H009", 431, Peer,
        en: "The message head is too long or has too many fields", "Keep the head below 16 KiB and 100 fields.",
        zh: "消息头过长或字段过多", "消息头不超过 16 KiB、100 个字段。";
    TARGET_TOO_LONG = "MOAT-H010", 414, Peer,
        en: "The request target is too long", "Keep it below 8 KiB.",
        zh: "请求目标过长", "请控制在 8 KiB 以内。";
    MALFORMED_HEAD = "MOAT-H011", 400, Peer,
        en: "The message head is malformed", "Follow RFC 9112: method, target and version, then `name: value` lines without a space before the colon.",
        zh: "消息头格式错误", "遵循 RFC 9112：方法、目标、版本，其后为冒号前无空格的 `名称: 值` 行。";
    VERSION = "MOAT-H012", 505, Peer,
        en: "The HTTP version is not served", "Use HTTP/1.1 or HTTP/2.",
        zh: "不支持该 HTTP 版本", "请使用 HTTP/1.1 或 HTTP/2。";
    CONNECTION_NAMES_PROTECTED = "MOAT-H013", 400, Peer,
        en: "Connection names a field that must reach the service", "Name hop-by-hop fields only.",
        zh: "Connection 指名了必须送达服务的字段", "只可指名逐跳字段。";
    METHOD = "MOAT-H014", 405, Peer,
        en: "The method is not served here", "Use a method that the route declares; CONNECT and TRACE are never served.",
        zh: "此处不支持该方法", "使用路由声明的方法；CONNECT 与 TRACE 一律不支持。";
    NO_ROUTE = "MOAT-H015", 404, Peer,
        en: "No route matches host, path and method", "Check the address; routes are listed in the gateway's configuration.",
        zh: "没有与主机、路径、方法匹配的路由", "请检查地址；路由见网关配置。";
    BODY_TOO_LONG = "MOAT-H016", 413, Peer,
        en: "The body is longer than the route allows", "Send a smaller body, or raise `body_bytes_max` of the route.",
        zh: "消息体超过路由允许的长度", "请减小消息体，或调大路由的 `body_bytes_max`。";
    SLOW_HEAD = "MOAT-H017", 408, Peer,
        en: "The message head did not arrive in time", "Send the head without delay.",
        zh: "消息头未按时到达", "请及时发送消息头。";
    SLOW_BODY = "MOAT-H018", 408, Peer,
        en: "The body did not arrive in time", "Send the body without long pauses.",
        zh: "消息体未按时到达", "请勿在发送消息体时长时间停顿。";
    BODY_BROKEN = "MOAT-H019", 400, Peer,
        en: "The body broke off or is not as long as announced", "Send as many bytes as announced.",
        zh: "消息体中断或与所报长度不符", "按所报长度发送。";
    PATH = "MOAT-H020", 400, Peer,
        en: "The path is ambiguous", "Send a path without dot segments, empty segments, encoded slashes or backslashes.",
        zh: "路径有歧义", "路径中不得含点段、空段、编码的斜杠或反斜杠。";
    UPGRADE = "MOAT-H021", 501, Peer,
        en: "Upgrades are not served", "Use plain HTTP/1.1, HTTP/2 or gRPC.",
        zh: "不支持协议升级", "请使用普通 HTTP/1.1、HTTP/2 或 gRPC。";
    TOO_MANY_CONNECTIONS = "MOAT-H022", 0, Operator,
        en: "The listener has as many connections as it may hold", "Close idle connections, or raise `connections_max` of the listener.",
        zh: "监听器的连接数已达上限", "关闭空闲连接，或调大 `connections_max`。";
    PROTOCOL = "MOAT-H023", 0, Peer,
        en: "The HTTP connection broke the protocol", "See RFC 9113; the record says how many streams were refused before they were calls.",
        zh: "HTTP 连接违反协议", "参见 RFC 9113；记录注明有多少流在成为调用之前被拒绝。";
    CALLER_GONE = "MOAT-H024", 0, Peer,
        en: "The caller went away before the answer", "Wait for the answer; the record says what became of the call.",
        zh: "调用方在应答前离开", "请等待应答；调用结果见审计记录。";
    TRAILER = "MOAT-H026", 400, Peer,
        en: "A trailer carries a field that belongs in the head", "Send framing, routing and identity fields in the head only (RFC 9110 §6.5.1).",
        zh: "尾部字段含有只能出现在消息头中的字段", "边界、路由与身份字段只放在消息头中（RFC 9110 §6.5.1）。";
    AFTER_CLOSE = "MOAT-H027", 0, Peer,
        en: "Bytes after the last message of a connection", "Send nothing after a message that says `Connection: close` (RFC 9112 §9.6).",
        zh: "连接的最后一条消息之后仍有数据", "在声明 `Connection: close` 的消息之后不得再发送（RFC 9112 §9.6）。";
    FIELD_TYPE = "MOAT-H028", 422, Peer,
        en: "A body field that the policy decides on is missing or has the wrong type", "Send the field as the route declares it; amounts with at most two decimals.",
        zh: "策略所依据的字段缺失或类型不符", "请按路由声明发送该字段；金额至多两位小数。";
    HANDSHAKES_OF_SOURCE = "MOAT-H029", 0, Peer,
        en: "The source address has as many unfinished handshakes as it may", "Finish handshakes, or raise `handshakes_per_source_max` of the listener where many callers share an address.",
        zh: "该来源地址未完成的握手数已达上限", "请完成握手；若众多调用方共用一个地址，请调大监听器的 `handshakes_per_source_max`。";
    BODY_RATE = "MOAT-H030", 408, Peer,
        en: "The body comes slower than the route allows", "Send the body faster, or lower `stream_rate_min` of the route; 0 lets a conversation pause.",
        zh: "消息体传输慢于路由允许的速率", "请加快发送，或调小路由的 `stream_rate_min`；设为 0 允许对话式停顿。";
    READER_RATE = "MOAT-H031", 0, Peer,
        en: "The answer is read slower than the route allows", "Read the answer faster, or lower `stream_rate_min` of the route.",
        zh: "应答的读取慢于路由允许的速率", "请加快读取，或调小路由的 `stream_rate_min`。";
}
