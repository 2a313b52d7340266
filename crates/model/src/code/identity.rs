//! Codes of identities (area I). Source: SPIFFE X.509-SVID.

super::codes! {
    NO_SPIFFE = "MOAT-I001", 403, Peer,
        en: "The certificate names no SPIFFE id", "Issue a certificate with exactly one URI name such as spiffe://bank.test/teller.",
        zh: "证书中没有 SPIFFE ID", "签发恰好含一个形如 spiffe://bank.test/teller 的 URI 名称的证书。";
    TWO_SPIFFE = "MOAT-I002", 403, Peer,
        en: "The certificate names more than one URI", "Issue a certificate with exactly one SPIFFE id (X.509-SVID §2).",
        zh: "证书中有不止一个 URI 名称", "签发恰好含一个 SPIFFE ID 的证书（X.509-SVID §2）。";
    BAD_SPIFFE = "MOAT-I003", 403, Peer,
        en: "The certificate's URI is no well-formed SPIFFE id", "Write spiffe://trust-domain/path in lower case, without query, port or empty segments.",
        zh: "证书中的 URI 不是规范的 SPIFFE ID", "写作 spiffe://信任域/路径，小写，无查询、端口或空段。";
    TRUST_DOMAIN = "MOAT-I004", 403, Peer,
        en: "The SPIFFE id belongs to another trust domain", "Use a certificate of the listener's trust domain.",
        zh: "SPIFFE ID 属于其他信任域", "请使用监听器信任域内的证书。";
    KEY_USAGE = "MOAT-I007", 403, Peer,
        en: "The certificate's key is not for signing", "Use the certificate for signatures: its key usage must have digitalSignature, and neither keyCertSign nor cRLSign.",
        zh: "证书密钥不用于签名", "请使用签名证书：密钥用法须含 digitalSignature，且不得含 keyCertSign 或 cRLSign。";
    EXPIRED = "MOAT-I006", 403, Peer,
        en: "The caller's certificate has expired since the connection was made", "Renew the certificate and connect anew.",
        zh: "调用方证书在连接建立后已过期", "请更新证书后重新连接。";
    CUT_REVOKED = "MOAT-I020", 403, Peer,
        en: "The caller's certificate was revoked since the connection was made", "Connect anew with another certificate.",
        zh: "调用方证书在连接建立后被吊销", "请换用其他证书重新连接。";
    CUT_UNTRUSTED = "MOAT-I021", 403, Peer,
        en: "The caller's authority, or its group, is no longer trusted here", "Connect anew with a certificate of the authorities that are trusted now.",
        zh: "调用方的证书机构或其分组已不再受信任", "请用现受信任机构签发的证书重新连接。";
    CUT_UNKNOWN = "MOAT-I022", 403, Operator,
        en: "No current list says any more whether the caller's certificate was revoked", "Fetch the current list of its authority and reload; its callers are refused until then.",
        zh: "已没有现行列表说明调用方证书是否被吊销", "请获取其机构的最新吊销列表并重新加载；在此之前拒绝其调用方。";
    UNREADABLE = "MOAT-I005", 403, Peer,
        en: "The certificate cannot be read as strictly as needed", "Issue it anew with a standard tool.",
        zh: "证书无法按要求严格解析", "请用标准工具重新签发。";
    TOKEN_MALFORMED = "MOAT-I010", 401, Peer,
        en: "The bearer token cannot be read", "Send one signed JWT (RFC 7519) with kid, iss, sub, aud and exp in `Authorization: Bearer`.",
        zh: "无法读取承载令牌", "在 `Authorization: Bearer` 中发送一个含 kid、iss、sub、aud、exp 的签名 JWT（RFC 7519）。";
    TOKEN_KEY = "MOAT-I011", 401, Peer,
        en: "The bearer token's issuer or key is not known here", "Get a token of an issuer under `tokens`; after a rotation the issuer's key file must have the new key.",
        zh: "令牌的签发方或密钥未知", "请使用 `tokens` 所列签发方的令牌；密钥轮换后其密钥文件须含新密钥。";
    TOKEN_SIGNATURE = "MOAT-I012", 401, Peer,
        en: "The bearer token's signature is wrong", "Get a new token; `alg` must be that of the issuer's key.",
        zh: "令牌签名错误", "请重新获取令牌；`alg` 须与签发方密钥一致。";
    TOKEN_EXPIRED = "MOAT-I013", 401, Peer,
        en: "The bearer token has expired or is not valid yet", "Get a new token; clocks may differ by 30 s.",
        zh: "令牌已过期或尚未生效", "请重新获取令牌；时钟误差不得超过 30 秒。";
    TOKEN_AUDIENCE = "MOAT-I014", 401, Peer,
        en: "The bearer token is for somebody else", "Get a token whose `aud` holds the audience under `tokens`.",
        zh: "令牌的受众不符", "请获取 `aud` 含 `tokens` 所列受众的令牌。";
    TOKEN_UNBOUND = "MOAT-I015", 401, Peer,
        en: "The bearer token is not bound to the caller's certificate", "Get a token whose `cnf` has the SHA-256 of this certificate as `x5t#S256` (RFC 8705 §3.1).",
        zh: "令牌未绑定调用方证书", "请获取 `cnf` 中 `x5t#S256` 为该证书 SHA-256 的令牌（RFC 8705 §3.1）。";
    TOKEN_REPLAYED = "MOAT-I016", 401, Peer,
        en: "The bearer token was used before", "This route takes each token once: get a new one for each call.",
        zh: "令牌已被使用过", "此路由的令牌只能使用一次：每次调用请获取新令牌。";
    TOKEN_NOT_ONCE = "MOAT-I017", 401, Peer,
        en: "The bearer token cannot be told from one that was used before", "This route takes each token once: it needs `jti` and an `iat` after the gateway's start.",
        zh: "无法判断令牌是否已被使用", "此路由的令牌只能使用一次：须含 `jti`，且 `iat` 晚于网关启动时间。";
    TOKENS_FULL = "MOAT-I018", 503, Operator,
        en: "No more used tokens can be remembered", "Let tokens live shorter, or ask for single use on fewer routes.",
        zh: "无法记住更多已用令牌", "请缩短令牌有效期，或减少要求一次性令牌的路由。";
}
