//! Codes of decisions that others ask for and enforce (area D).

super::codes! {
    NOT_ENFORCER = "MOAT-D001", 403, Operator,
        en: "Whoever asks may not ask for decisions here", "List its SPIFFE id under the listener's `enforcers.spiffe`, or its user id under `enforcers.uids`.",
        zh: "询问方无权在此请求决策", "请将其 SPIFFE 标识列入监听器的 `enforcers.spiffe`，或将其用户号列入 `enforcers.uids`。";
    MALFORMED = "MOAT-D002", 400, Peer,
        en: "The question for a decision cannot be read", "docs/decisions.md says what is taken of ext_authz and AuthZEN.",
        zh: "决策请求无法读取", "可接受的 ext_authz 与 AuthZEN 内容见 docs/decisions.md。";
    NO_SUCH_CALL = "MOAT-D003", 404, Peer,
        en: "This listener answers questions for decisions only", "Call the path that belongs to its protocol; send calls for services to a listener with `protocol: http`.",
        zh: "此监听器只回答决策请求", "请调用其协议对应的路径；业务调用请发往 `protocol: http` 的监听器。";
    NO_CALLER = "MOAT-D004", 403, Operator,
        en: "It is not said whose call it is", "Let Envoy ask its callers for certificates and set `include_peer_certificate: true`; AuthZEN takes `subject.properties.certificate`.",
        zh: "未说明是谁的调用", "请让 Envoy 要求客户端证书并设 `include_peer_certificate: true`；AuthZEN 使用 `subject.properties.certificate`。";
    CALLER_DIFFERS = "MOAT-D005", 403, Operator,
        en: "The caller that is named is not that of the certificate", "Whoever asks must name the SPIFFE id of the certificate that it passes on.",
        zh: "所述调用方与证书不符", "询问方所述必须是其转交证书中的 SPIFFE 标识。";
    BODY_UNSEEN = "MOAT-D006", 403, Operator,
        en: "The decision needs the body, and it was not passed on whole", "Set `with_request_body` with `pack_as_bytes: true` in Envoy, large enough and without partial messages, and `enforcers.bodies: whole` here.",
        zh: "决策需要消息体，但未完整转交", "请在 Envoy 设 `with_request_body` 与 `pack_as_bytes: true`，足够大且不允许部分消息，并在此设 `enforcers.bodies: whole`。";
    NOT_HERE = "MOAT-D007", 403, Operator,
        en: "The call may only go through Moat itself", "Its route masks or records what passes, or the policy obliges to mask: send it to a listener with `protocol: http`, or write a route without.",
        zh: "此调用只能经由 Moat 本身", "其路由须脱敏或记录往来内容，或策略要求脱敏：请发往 `protocol: http` 的监听器，或另写不含此要求的路由。";
}
