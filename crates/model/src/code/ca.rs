//! Codes of the certificate authority (area K).

super::codes! {
    EXISTS = "MOAT-K001", 0, Operator,
        en: "There is an authority in this folder already", "Choose another folder, or remove this one yourself.",
        zh: "此目录中已有证书机构", "请另选目录，或自行删除该目录。";
    UNREADABLE = "MOAT-K002", 0, Operator,
        en: "The authority's files cannot be read", "Run `moat ca init` first, or name the folder with --dir.",
        zh: "无法读取证书机构的文件", "先运行 `moat ca init`，或用 --dir 指定目录。";
    BAD_REQUEST = "MOAT-K003", 0, Operator,
        en: "The certificate asked for cannot be issued", "Give a SPIFFE id such as spiffe://bank.test/teller and a validity in days.",
        zh: "无法签发所请求的证书", "请给出形如 spiffe://bank.test/teller 的 SPIFFE ID 与有效天数。";
}
