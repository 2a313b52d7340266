/*
 * What processes of our roles do that they have no business doing: execute a program, make a process,
 * be ended for a forbidden system call. Told and counted by role; nothing is stopped here, that is
 * seccomp's work.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "moat.h"

/* Room for events that nobody has read yet, in bytes: about 380. */
#define EVENTS_BYTES (64 * 1024)
#define SIGSYS 31

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

static __always_inline void tell(__u32 kind, const char *path)
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
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	if (path)
		bpf_probe_read_kernel_str(event->path, sizeof(event->path), path);
	bpf_ringbuf_submit(event, 0);
}

/* Arguments: task, old process id, linux_binprm. */
SEC("raw_tp/sched_process_exec")
int behaviour_exec(struct bpf_raw_tracepoint_args *ctx)
{
	struct linux_binprm *program = (struct linux_binprm *)ctx->args[2];

	tell(BEHAVIOUR_EXEC, BPF_CORE_READ(program, filename));
	return 0;
}

/* Arguments: parent, child. */
SEC("raw_tp/sched_process_fork")
int behaviour_fork(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *child = (struct task_struct *)ctx->args[1];

	/* A thread is no process. */
	if (BPF_CORE_READ(child, pid) == BPF_CORE_READ(child, tgid))
		tell(BEHAVIOUR_FORK, 0);
	return 0;
}

/* Arguments: signal, its information, task and more. seccomp ends the task that is running. */
SEC("raw_tp/signal_generate")
int behaviour_signal(struct bpf_raw_tracepoint_args *ctx)
{
	if ((int)ctx->args[0] == SIGSYS)
		tell(BEHAVIOUR_FORBIDDEN, 0);
	return 0;
}

/* See egress.bpf.c. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";
