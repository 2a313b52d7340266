//! Codes of the certificate authority (area K).

super::codes! {
    EXISTS = "MOAT-K001", 0, Operator,
        en: "A file would be overwritten that must not be", "Choose another folder or name (--dir, --out, --stem), or move the file away yourself if nobody needs it there.",
        zh: "将覆盖不得覆盖的文件", "请另选目录或名称（--dir、--out、--stem）；若无人需要该文件，请自行移走。";
    UNREADABLE = "MOAT-K002", 0, Operator,
        en: "The authority's files cannot be read", "Run `moat ca init` first, or name the folder with --dir.",
        zh: "无法读取证书机构的文件", "先运行 `moat ca init`，或用 --dir 指定目录。";
    BAD_REQUEST = "MOAT-K003", 0, Operator,
        en: "The certificate asked for cannot be issued", "Give a SPIFFE id such as spiffe://bank.test/teller and a validity in days.",
        zh: "无法签发所请求的证书", "请给出形如 spiffe://bank.test/teller 的 SPIFFE ID 与有效天数。";
    REQUEST = "MOAT-K004", 0, Operator,
        en: "The certificate request cannot be used", "Make it anew by `moat ca request`: PKCS #10 with an SM2 or P-256 key, signed by that key.",
        zh: "证书请求不可用", "请用 `moat ca request` 重新生成：PKCS #10，SM2 或 P-256 密钥，并以该密钥签名。";
    NOT_GRANTED = "MOAT-K005", 0, Operator,
        en: "The certificate request asks for a name that was not granted", "Grant it with --spiffe or --name if its sender may have it; otherwise ask for a request without it.",
        zh: "证书请求要求了未获批准的名称", "若申请者有权使用该名称，请以 --spiffe 或 --name 批准；否则请对方去掉该名称后重新请求。";
    REGISTER = "MOAT-K006", 0, Operator,
        en: "The authority's register cannot be used", "End the other command that works on it. If the file was changed, cut or lost, put back the newest copy and revoke again what newer lists have. Never begin with an empty or old one: that takes revocations back.",
        zh: "证书机构的登记簿不可用", "请结束正在使用它的其他命令。若文件被改动、截断或丢失，请恢复最新副本，并重新吊销较新列表中的证书。切勿改用空的或旧的登记簿：那会撤回已有的吊销。";
    NOT_ISSUED = "MOAT-K007", 0, Operator,
        en: "This authority has not issued such a certificate", "Check the number and the folder; `openssl x509 -noout -serial` prints the number of a certificate.",
        zh: "该证书机构未签发过此证书", "请检查序列号与目录；`openssl x509 -noout -serial` 可打印证书序列号。";
    REVOKED = "MOAT-K008", 0, Operator,
        en: "The certificate is revoked already", "Nothing is left to do; time and reason of a revocation do not change.",
        zh: "该证书已被吊销", "无需再做任何事；吊销时间与原因不再改变。";
    RESPONDER = "MOAT-K009", 0, Operator,
        en: "This responder may not sign OCSP responses", "Issue it by `moat ca issue --ocsp-responder` with the same authority, valid longer than the response.",
        zh: "该响应者无权签署 OCSP 响应", "请用同一证书机构以 `moat ca issue --ocsp-responder` 签发，且有效期长于响应。";
    ISSUER_REVOKED = "MOAT-K010", 0, Operator,
        en: "The root has revoked this issuing authority", "It issues and answers no more. Make a new authority by `moat ca init` in another folder, and give out its root.",
        zh: "该签发机构已被根机构吊销", "它不再签发证书，也不再应答。请在另一目录用 `moat ca init` 新建证书机构，并分发其根证书。";
}
