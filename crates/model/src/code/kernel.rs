//! Codes of what the kernel watches and enforces (area E).

super::codes! {
    EGRESS_REFUSED = "MOAT-E001", 0, Operator,
        en: "A connection to an address that is not allowed was refused", "The record says which process tried to reach what. If it is meant to, add the address under `egress.allow`; if not, look for an intruder.",
        zh: "已拒绝连接未经允许的地址", "记录注明哪个进程试图访问何处。若属正常，请将该地址加入 `egress.allow`；否则请排查入侵。";
    EVENTS_LOST = "MOAT-E002", 0, Moat,
        en: "Refused connections were counted, but their events were lost", "The record says how many. More came at once than could be recorded, or the kernel role was ended by force.",
        zh: "被拒绝的连接已计数，但其事件丢失", "记录注明数量：瞬时过多而未能逐一记录，或内核角色被强行终止。";
    PROBE_MISSING = "MOAT-E003", 0, Operator,
        en: "A protection of the kernel is not in force", "The reason stands beside it. Start Moat as root on Linux 6.1 or newer with cgroup version 2; `moat doctor` tries each part. To do without it, leave it out of `kernel.require`.",
        zh: "某项内核防护未生效", "原因见旁。请在 Linux 6.1 及以上、启用 cgroup v2 的环境以 root 启动；`moat doctor` 会逐项检验。若不需要，请从 `kernel.require` 中去除。";
    EGRESS_OBSERVED = "MOAT-E004", 0, Operator,
        en: "A connection to an address that is not allowed was let through: the guard only observes", "Add the address under `egress.allow`, and write `egress: { default: deny }` once nothing is missing.",
        zh: "连接未经允许的地址已放行：防护处于仅观察模式", "请将该地址加入 `egress.allow`；核对无遗漏后写 `egress: { default: deny }`。";
    NOT_TLS = "MOAT-E006", 0, Peer,
        en: "A connection began with something else than a TLS record", "Callers speak TLS 1.3 from the first byte. Whether such packets are dropped is `kernel.tls_records.drop_other`.",
        zh: "连接的首个数据并非 TLS 记录", "调用方须从首字节起使用 TLS 1.3。是否丢弃此类数据包由 `kernel.tls_records.drop_other` 决定。";
    NOT_ADMITTED = "MOAT-E007", 0, Peer,
        en: "A connection from a network that is not admitted was dropped", "If the source is meant to call, add its network under `kernel.tls_records.admit`.",
        zh: "来自未准入网络的连接已丢弃", "若该来源应当调用，请将其网络加入 `kernel.tls_records.admit`。";
    TOO_FAST = "MOAT-E008", 0, Peer,
        en: "A source opens connections faster than it may; some were dropped", "Find out why, or raise `kernel.tls_records.syn_per_source_max`.",
        zh: "某来源建立连接过快，部分已丢弃", "请查明原因，或提高 `kernel.tls_records.syn_per_source_max`。";
    BEHAVIOUR = "MOAT-E009", 0, Moat,
        en: "A role did what it has no business doing", "It executed a program, made a process, or was ended for a forbidden system call: the record says which. Treat the role as taken over until it is known why.",
        zh: "某角色做了不应做之事", "记录注明：执行了程序、创建了进程，或因被禁系统调用而被终止。查明原因之前，应视该角色已被攻陷。";
    STALLED = "MOAT-E010", 0, Moat,
        en: "A worker of the gateway stands still", "The line says at which stage of which call, and in which system call if it waits in one; `moat latency` shows the places in the program. At `policy` it is usually a rule that takes long to decide.",
        zh: "网关的某个工作线程停滞", "日志行注明所在调用及阶段，若在等待则注明系统调用；`moat latency` 显示其在程序中的位置。若停在 `policy`，通常是某条规则判定过慢。";
    ALLOW_FAILED = "MOAT-E005", 0, Moat,
        en: "The egress guard did not take a new list", "The list before stays in force, and so does the configuration before. The reason stands beside it.",
        zh: "出口防护未接受新名单", "原名单与原配置继续有效，原因见旁。";
}
