//! Codes of what is refused so that the rest can be served (area L). Nothing was sent.

super::codes! {
    LATE = "MOAT-L001", 504, Peer,
        en: "The call's time was over before anything was sent", "Give the call more time in `grpc-timeout` or `X-Request-Deadline-Ms`, or raise `deadline_ms` of the route.",
        zh: "在发送任何内容之前，调用时限已到", "请在 `grpc-timeout` 或 `X-Request-Deadline-Ms` 中给予更多时间，或调大路由的 `deadline_ms`。";
    RATE = "MOAT-L002", 429, Peer,
        en: "The caller has made as many calls as it may; nothing was sent", "Repeat the call after the time that `Retry-After` names; `rates` of the route says how many are allowed.",
        zh: "调用次数已达上限；未发送任何内容", "请在 `Retry-After` 所示时间后重试；路由的 `rates` 规定了允许的次数。";
    SHED = "MOAT-L003", 503, Moat,
        en: "The gateway is overrun and serves what matters more; nothing was sent", "Repeat the call later; `class` of the route says what is refused first.",
        zh: "网关过载，优先处理更重要的调用；未发送任何内容", "请稍后重试；路由的 `class` 决定先拒绝哪些调用。";
    CONCURRENCY = "MOAT-L004", 503, Upstream,
        en: "The service has as many calls under way as it carries; nothing was sent", "Repeat the call later; the limit follows the service's latency, up to `adaptive_max` of the upstream.",
        zh: "服务正在处理的调用已达其承载上限；未发送任何内容", "请稍后重试；该上限随服务时延变化，最高为上游的 `adaptive_max`。";
}
