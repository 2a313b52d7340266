/*
 * What processes of our roles do: execute a program, make a process, open a path, use a capability, be
 * refused a system call or be ended for one. Told and counted by role; nothing is stopped here, that is
 * the work of seccomp and Landlock.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "moat.h"

/* Room for events that nobody has read yet, in bytes: about 380. */
#define EVENTS_BYTES (64 * 1024)
#define SIGSYS 31
#define EPERM 1
#define EACCES 13

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long orig_ax;
	unsigned long di;
	unsigned long si;
} __attribute__((preserve_access_index));
#define CALL_OF(regs) ((int)(regs)->orig_ax)
/* open and creat have their path first; openat and openat2 second. */
#define OPENS_FIRST(call) ((call) == 2 || (call) == 85)
#define OPENS_SECOND(call) ((call) == 257 || (call) == 437)
/*
 * Libraries ask at their start for what they can do without: access, faccessat, faccessat2, the family of
 * stat, readlink, prctl. A refusal of these is nothing to be told.
 */
#define ONLY_ASKS(call)                                                                            \
	((call) == 21 || (call) == 269 || (call) == 439 || (call) == 4 || (call) == 5 ||           \
	 (call) == 6 || (call) == 262 || (call) == 332 || (call) == 89 || (call) == 267 ||         \
	 (call) == 157)
#define FIRST(regs) ((regs)->di)
#define SECOND(regs) ((regs)->si)
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 regs[31];
	__s32 syscallno;
} __attribute__((preserve_access_index));
#define CALL_OF(regs) ((regs)->syscallno)
#define OPENS_FIRST(call) (0)
#define OPENS_SECOND(call) ((call) == 56 || (call) == 437)
#define ONLY_ASKS(call)                                                                            \
	((call) == 48 || (call) == 439 || (call) == 79 || (call) == 80 || (call) == 291 ||         \
	 (call) == 78 || (call) == 167)
#define FIRST(registers) ((registers)->regs[0])
#define SECOND(registers) ((registers)->regs[1])
#endif

struct task_struct {
	int pid;
	int tgid;
} __attribute__((preserve_access_index));

struct linux_binprm {
	const char *filename;
} __attribute__((preserve_access_index));

/* Our cgroups, each with the number of its role. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ROLES_MAX);
	__type(key, __u64);
	__type(value, __u32);
} behaviour_roles SEC(".maps");

/* By role and kind. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ROLES_MAX * BEHAVIOUR_KINDS);
	__type(key, __u32);
	__type(value, __u64);
} behaviour_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, EVENTS_BYTES);
} behaviour_events SEC(".maps");

/* For BTF. */
const struct behaviour_event *unused_behaviour_event __attribute__((unused));

static __always_inline void tell(__u32 kind, __u32 detail, const char *path, bool is_users)
{
	__u64 cgroup = bpf_get_current_cgroup_id();
	__u32 *role = bpf_map_lookup_elem(&behaviour_roles, &cgroup);
	struct behaviour_event *event;
	__u64 *counter;
	__u32 place;

	if (!role)
		return;
	place = *role * BEHAVIOUR_KINDS + kind;
	counter = bpf_map_lookup_elem(&behaviour_counts, &place);
	if (counter)
		__sync_fetch_and_add(counter, 1);
	event = bpf_ringbuf_reserve(&behaviour_events, sizeof(*event), 0);
	if (!event)
		return;
	__builtin_memset(event, 0, sizeof(*event));
	event->at_ns = bpf_ktime_get_ns();
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->role = *role;
	event->kind = kind;
	event->detail = detail;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	if (path && is_users)
		bpf_probe_read_user_str(event->path, sizeof(event->path), path);
	else if (path)
		bpf_probe_read_kernel_str(event->path, sizeof(event->path), path);
	bpf_ringbuf_submit(event, 0);
}

/* Arguments: task, old process id, linux_binprm. */
SEC("raw_tp/sched_process_exec")
int behaviour_exec(struct bpf_raw_tracepoint_args *ctx)
{
	struct linux_binprm *program = (struct linux_binprm *)ctx->args[2];

	tell(BEHAVIOUR_EXEC, 0, BPF_CORE_READ(program, filename), false);
	return 0;
}

/* Arguments: parent, child. */
SEC("raw_tp/sched_process_fork")
int behaviour_fork(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *child = (struct task_struct *)ctx->args[1];

	/* A thread is no process. */
	if (BPF_CORE_READ(child, pid) == BPF_CORE_READ(child, tgid))
		tell(BEHAVIOUR_FORK, 0, 0, false);
	return 0;
}

/* Arguments: signal, its information, task and more. seccomp ends the task that is running. */
SEC("raw_tp/signal_generate")
int behaviour_signal(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs *regs;

	if ((int)ctx->args[0] != SIGSYS)
		return 0;
	regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	tell(BEHAVIOUR_FORBIDDEN, CALL_OF(regs), 0, false);
	return 0;
}

/* A role that has not given up its rights yet starts, and does what it must for that. */
static __always_inline bool is_starting(void)
{
	return (__u32)bpf_get_current_uid_gid() == 0;
}

/* Arguments: registers, result. */
SEC("tp_btf/sys_exit")
int behaviour_call(__u64 *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	long result = ctx[1];
	int call = CALL_OF(regs);
	bool is_refused = result == -EPERM || result == -EACCES;
	const char *path = 0;

	if (OPENS_FIRST(call))
		path = (const char *)FIRST(regs);
	else if (OPENS_SECOND(call))
		path = (const char *)SECOND(regs);
	else if (!is_refused || ONLY_ASKS(call))
		return 0;
	if ((!is_refused && result < 0) || is_starting())
		return 0;
	tell(is_refused ? BEHAVIOUR_REFUSED : BEHAVIOUR_OPEN, call, path, true);
	return 0;
}

/* Arguments: credentials, user namespace, that of the credentials, capability, result. */
SEC("raw_tp/cap_capable")
int behaviour_capable(struct bpf_raw_tracepoint_args *ctx)
{
	if ((int)ctx->args[4] || is_starting())
		return 0;
	tell(BEHAVIOUR_CAPABLE, ctx->args[3], 0, false);
	return 0;
}

/* See egress.bpf.c. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";
