//! Codes of processes and the machine (area S).

super::codes! {
    ROLE_DIED = "MOAT-S001", 0, Moat,
        en: "A role ended and is started again", "The log above names the signal or exit code.",
        zh: "某角色进程已结束，正在重启", "上方日志注明信号或退出码。";
    BIND = "MOAT-S002", 0, Operator,
        en: "A listening socket cannot be opened", "Another program holds the address, or the right to bind it is missing.",
        zh: "无法打开监听套接字", "地址被其他程序占用，或缺少绑定权限。";
    SANDBOX = "MOAT-S003", 0, Operator,
        en: "A role could not give up its rights", "Use a kernel with Landlock and seccomp, or `profile: dev`, which goes on and says so.",
        zh: "某角色未能放弃权限", "请使用支持 Landlock 与 seccomp 的内核，或使用会明示并继续的 `profile: dev`。";
    NO_USER = "MOAT-S004", 0, Operator,
        en: "A role's user does not exist", "Create the users moat-app, moat-audit, moat-admin and moat-kernel, or name others under `users`.",
        zh: "角色所需的用户不存在", "请创建 moat-app、moat-audit、moat-admin、moat-kernel 用户，或在 `users` 中另行指定。";
    NOT_RUNNING = "MOAT-S005", 0, Operator,
        en: "No running gateway answers here", "Start one with `moat serve`, or name its socket with --socket.",
        zh: "此处没有运行中的网关应答", "用 `moat serve` 启动，或用 --socket 指定其套接字。";
    INTERNAL = "MOAT-S006", 500, Moat,
        en: "Moat met a fault of its own", "Please report the record's trace id.",
        zh: "Moat 自身出现故障", "请附上记录的跟踪号报告。";
    NOT_READY = "MOAT-S007", 0, Operator,
        en: "The gateway did not become ready in time", "Read the lines above; each role says what it waits for.",
        zh: "网关未按时就绪", "请阅读上方各行；各角色会说明其所等待者。";
    UPGRADE_FAILED = "MOAT-S009", 0, Operator,
        en: "The new program did not take over; the old one goes on", "Read the lines of the new program above. Nothing was changed: put things right and ask again.",
        zh: "新程序未能接管，旧程序继续运行", "请阅读上方新程序的日志。未作任何改动：修正后可再次请求升级。";
    UPGRADE_PLACES = "MOAT-S010", 0, Operator,
        en: "An upgrade cannot move listeners, workers, the log, the admin socket, or where the gateway may connect to", "Upgrade with the configuration that is in force; reload or restart for the rest afterwards.",
        zh: "升级不能变更监听地址、工作线程数、日志目录、管理套接字或网关的出网范围", "请以当前生效的配置升级，其余变更之后再重载或重启。";
    UPGRADE_IMPOSSIBLE = "MOAT-S011", 0, Operator,
        en: "The program cannot be followed by another here", "As process 1 of a container, replace the container. Otherwise the program's file must exist and only its owner may write it.",
        zh: "此处无法由新程序接替", "若为容器内 1 号进程，请替换整个容器；否则程序文件须存在，且仅其属主可写。";
    LAST_GOOD = "MOAT-S012", 0, Operator,
        en: "The configuration on the disk is no good; the last good one is in force", "Put right what is named and reload; until then what is in force is older than what stands on the disk.",
        zh: "磁盘上的配置有误，当前生效的是上一份可用配置", "请修正所列问题并重载；在此之前，生效的配置早于磁盘上的配置。";
    PARTIAL_SANDBOX = "MOAT-S008", 0, Operator,
        en: "The kernel enforces Landlock only in part", "Use Linux 6.12 or newer, or write `sandbox: { landlock: partial }` if what this kernel enforces is enough.",
        zh: "内核仅部分实施 Landlock", "请使用 Linux 6.12 或更新内核；若现有保护已足够，请写明 `sandbox: { landlock: partial }`。";
}
