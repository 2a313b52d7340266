//! Codes of the call to the service behind the gateway (area U).

super::codes! {
    CONNECT = "MOAT-U001", 503, Upstream,
        en: "The service cannot be reached; nothing was sent", "Check that the service runs; the call may be repeated.",
        zh: "无法连接服务；未发送任何内容", "检查服务是否运行；可重试该调用。";
    HANDSHAKE = "MOAT-U002", 503, Upstream,
        en: "The service did not prove who it is; nothing was sent", "Compare the service's certificate with `trust` and `spiffe` of the upstream.",
        zh: "服务未能证明身份；未发送任何内容", "请将服务证书与上游的 `trust`、`spiffe` 比对。";
    TIMEOUT = "MOAT-U003", 504, Upstream,
        en: "The service did not answer in time; what it did is unknown", "Ask the service what became of the call before repeating it.",
        zh: "服务未按时应答；其处理结果未知", "重试前请先向服务查询该调用的结果。";
    BROKEN = "MOAT-U004", 504, Upstream,
        en: "The connection to the service broke; what it did is unknown", "Ask the service what became of the call before repeating it.",
        zh: "与服务的连接中断；其处理结果未知", "重试前请先向服务查询该调用的结果。";
    ANSWER_TOO_LONG = "MOAT-U005", 502, Upstream,
        en: "The service's answer is longer than the route allows", "Raise `answer_bytes_max` of the route, or page the answer.",
        zh: "服务的应答超过路由允许的长度", "调大路由的 `answer_bytes_max`，或将应答分页。";
    BAD_ANSWER = "MOAT-U006", 502, Upstream,
        en: "The service's answer is malformed", "The service must follow RFC 9112; its framing is ambiguous or broken.",
        zh: "服务的应答格式错误", "服务须遵循 RFC 9112；其消息边界有歧义或已损坏。";
    BEFORE_IMAGE = "MOAT-U007", 502, Upstream,
        en: "The state before the change could not be read, so nothing was sent", "The route's `audit.before.read` must answer 200 with JSON.",
        zh: "无法读取变更前状态，因此未发送", "路由的 `audit.before.read` 须以 200 应答 JSON。";
    STREAM_CUT = "MOAT-U008", 0, Upstream,
        en: "The answer's stream ended early", "The closing record says how many bytes passed.",
        zh: "应答流提前中断", "收尾记录注明已通过的字节数。";
    BUSY = "MOAT-U009", 503, Upstream,
        en: "Every connection to the service is in use; nothing was sent", "Repeat the call later, or raise `connections_max` of the upstream.",
        zh: "到服务的连接均被占用；未发送任何内容", "请稍后重试，或调大上游的 `connections_max`。";
    SERVICE_ERROR = "MOAT-U010", 0, Upstream,
        en: "The service answered with an error whose text is withheld", "The status is the service's own; its text could not be masked.",
        zh: "服务返回错误，其内容已扣留", "状态码来自服务本身；其内容无法脱敏。";
    STREAM_RATE = "MOAT-U011", 0, Upstream,
        en: "The answer comes slower than the route allows", "Send the answer faster, or lower `stream_rate_min` of the route; 0 lets a conversation pause.",
        zh: "应答传输慢于路由允许的速率", "请加快应答，或调小路由的 `stream_rate_min`；设为 0 允许对话式停顿。";
    MIXED = "MOAT-U012", 503, Upstream,
        en: "The service mixes national and international cryptography; nothing was sent", "Suite, group and certificates of both sides must all be national (RFC 8998) or all international.",
        zh: "服务混用国密与国际算法；未发送任何内容", "套件、群与双方证书须全部为国密（RFC 8998）或全部为国际算法。";
    ONE_SIDED = "MOAT-U013", 503, Upstream,
        en: "The service asks for no certificate of ours; nothing was sent", "Let the service demand a client certificate: it would take calls from anybody.",
        zh: "服务未要求我方证书；未发送任何内容", "请让服务强制要求客户端证书，否则任何人都能调用它。";
    NOTHING_IN_COMMON = "MOAT-U014", 503, Upstream,
        en: "The service and the gateway have no TLS algorithms in common; nothing was sent", "Let the service speak TLS 1.3 with a suite and group of a stack for which the upstream has an identity.",
        zh: "服务与网关没有共同的 TLS 算法；未发送任何内容", "请让服务使用 TLS 1.3，并支持上游所配身份对应的套件与群。";
    CHAIN = "MOAT-U015", 503, Upstream,
        en: "The service shows too many certificates; nothing was sent", "Let it show the leaf and the authorities between it and the root: at most 8 certificates and 32 KiB.",
        zh: "服务出示的证书过多；未发送任何内容", "请让服务只出示叶证书及其与根之间的机构证书：至多 8 张、32 KiB。";
    NO_ENDPOINT = "MOAT-U016", 503, Upstream,
        en: "No address of the service is known; nothing was sent", "Check the names under `endpoints` and the servers under `dns`; the call may be repeated.",
        zh: "不知道服务的任何地址；未发送任何内容", "请检查 `endpoints` 中的名称与 `dns` 中的服务器；可重试该调用。";
    BROKEN_CIRCUIT = "MOAT-U017", 503, Upstream,
        en: "The service fails too often and is left alone for a while; nothing was sent", "Repeat the call after the time that `Retry-After` names; `moat status` shows the breakers.",
        zh: "服务失败过多，暂停调用；未发送任何内容", "请在 `Retry-After` 所示时间后重试；`moat status` 显示熔断状态。";
    REVOKED = "MOAT-U020", 503, Upstream,
        en: "The service's certificate, or an authority's in its chain, was revoked; nothing was sent", "Give the service a new certificate.",
        zh: "服务证书或其链中的机构证书已被吊销；未发送任何内容", "请为服务签发新证书。";
    NO_STAPLE = "MOAT-U022", 503, Upstream,
        en: "The service staples no sound OCSP response; nothing was sent", "Let the service staple a current response of its issuer, or remove `ocsp: require` of the upstream.",
        zh: "服务未装订有效的 OCSP 应答；未发送任何内容", "请让服务装订其签发者的现行应答，或去掉该上游的 `ocsp: require`。";
    REVOCATION_UNKNOWN = "MOAT-U021", 503, Operator,
        en: "No current list says whether the service's certificate was revoked; nothing was sent", "Name the current lists of its authorities under `crls` of the upstream and reload.",
        zh: "没有现行列表说明服务证书是否已被吊销；未发送任何内容", "请在该上游的 `crls` 中列出其机构的现行吊销列表并重新加载。";
    CUT_SERVICE = "MOAT-U023", 503, Upstream,
        en: "The service of an open stream would not be believed any more", "The record's reasons say why: its certificate expired or was revoked, its authority is no longer trusted, or another service is expected.",
        zh: "数据流所连的服务已不再可信", "原因见记录：其证书已过期或被吊销、其机构不再受信任，或现在应为另一服务。";
    FEW_LOGS = "MOAT-U024", 503, Upstream,
        en: "Too few logs have signed the service's certificate; nothing was sent", "Give the service a certificate with timestamps of enough of the logs under `transparency`.",
        zh: "签署服务证书的透明日志数量不足；未发送任何内容", "请为服务换用由 `transparency` 所列日志中足够数量签署过的证书。";
}
