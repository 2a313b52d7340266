/*
 * Where the time of a call goes. The gateway's workers write what their calls did into memory of their
 * own; these programs take it from there when a worker's thread pauses, so that no worker makes a system call
 * for it. Beside that they tell whatever may have delayed a call: waiting for a processor, for a page, in a
 * system call, for a device, for a segment that was lost. Short ones are only added up.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "moat.h"

/* Room for events that nobody has read yet, in bytes: about 28,000 calls. */
#define EVENTS_BYTES (4 * 1024 * 1024)
/* Requests to block devices that are under way. */
#define REQUESTS_MAX 4096
/* Ports of listeners and services. */
#define PORTS_MAX 512

typedef int pid_t;

struct task_struct {
	pid_t pid;
	pid_t tgid;
	unsigned long min_flt;
	unsigned long maj_flt;
} __attribute__((preserve_access_index));

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long ip;
	unsigned long sp;
	unsigned long orig_ax;
} __attribute__((preserve_access_index));
#define CALL_OF(regs) ((int)BPF_CORE_READ(regs, orig_ax))
#define INSTRUCTION_OF(regs) BPF_CORE_READ(regs, ip)
#define STACK_OF(regs) BPF_CORE_READ(regs, sp)
/* epoll_wait, epoll_pwait; poll, ppoll: waiting for something to do. */
#define IS_IDLE(call) ((call) == 232 || (call) == 281 || (call) == 7 || (call) == 271)
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 sp;
	__u64 pc;
	__s32 syscallno;
} __attribute__((preserve_access_index));
#define CALL_OF(regs) BPF_CORE_READ(regs, syscallno)
#define INSTRUCTION_OF(regs) BPF_CORE_READ(regs, pc)
#define STACK_OF(regs) BPF_CORE_READ(regs, sp)
#define IS_IDLE(call) ((call) == 22 || (call) == 73)
#else
#error "which register holds the number of a system call is not known for this architecture"
#endif

struct gendisk {
	int major;
	int first_minor;
} __attribute__((preserve_access_index));

struct request_queue {
	struct gendisk *disk;
} __attribute__((preserve_access_index));

struct request {
	struct request_queue *q;
} __attribute__((preserve_access_index));

struct sock_common {
	__u16 skc_num;
	__be16 skc_dport;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
} __attribute__((preserve_access_index));

/* Cgroups of gateway and auditor, each with its `latency_role`. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ROLES_MAX);
	__type(key, __u64);
	__type(value, __u32);
} latency_roles SEC(".maps");

/* Addresses of what workers publish, by their numbers. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WORKERS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} latency_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LATENCY_THREADS_MAX);
	__type(key, __u32);
	__type(value, struct latency_thread);
} latency_threads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LATENCY_CONTROL_PLACES);
	__type(key, __u32);
	__type(value, __u64);
} latency_control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LATENCY_COUNT_PLACES);
	__type(key, __u32);
	__type(value, __u64);
} latency_counts SEC(".maps");

/* When a request was given to its device, by its address. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, REQUESTS_MAX);
	__type(key, __u64);
	__type(value, __u64);
} latency_requests SEC(".maps");

/* Ports whose connections are ours. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PORTS_MAX);
	__type(key, __u32);
	__type(value, __u32);
} latency_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, EVENTS_BYTES);
} latency_events SEC(".maps");

/* A thread that begins to be watched: too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct latency_thread);
} latency_fresh SEC(".maps");

/* For BTF. */
const struct latency_event *unused_latency_event __attribute__((unused));
const struct latency_stall *unused_latency_stall __attribute__((unused));
const struct latency_window *unused_latency_window __attribute__((unused));

static __always_inline void count(__u32 place, __u64 much)
{
	__u64 *counter = bpf_map_lookup_elem(&latency_counts, &place);

	if (counter)
		__sync_fetch_and_add(counter, much);
}

static __always_inline __u64 control(__u32 place)
{
	__u64 *value = bpf_map_lookup_elem(&latency_control, &place);

	return value ? *value : ~0ULL;
}

static __always_inline void tell(const struct latency_event *event)
{
	/* Whoever reads looks by itself four times a second: waking it would cost more than this. */
	if (bpf_ringbuf_output(&latency_events, (void *)event, sizeof(*event), BPF_RB_NO_WAKEUP))
		count(LATENCY_COUNT_EVENTS_LOST, 1);
	else
		count(LATENCY_COUNT_EVENTS, 1);
}

static __always_inline void tell_of(struct latency_thread *thread, __u32 tid, __u32 kind, __u64 from,
				    __u64 to, __u64 detail)
{
	struct latency_event event = {
		.kind = kind,
		.role = thread->role,
		.number = thread->number,
		.tid = tid,
		.from_ns = from,
		.to_ns = to,
		.detail = detail,
		.trace = thread->trace,
		.stage = thread->stage,
	};

	tell(&event);
}

static __always_inline void tell_stall(struct latency_thread *thread, __u32 tid, __u64 from, __u64 now,
				       __u64 call)
{
	struct latency_stall *stall;

	thread->stalled_ns = thread->started_ns;
	stall = bpf_ringbuf_reserve(&latency_events, sizeof(*stall), 0);
	if (!stall) {
		count(LATENCY_COUNT_EVENTS_LOST, 1);
		return;
	}
	stall->event.kind = LATENCY_STALL;
	stall->event.role = thread->role;
	stall->event.number = thread->number;
	stall->event.tid = tid;
	stall->event.from_ns = from;
	stall->event.to_ns = now;
	stall->event.detail = call;
	stall->event.trace = thread->trace;
	stall->event.stage = thread->stage;
	stall->event.nothing = 0;
	stall->instruction = thread->instruction;
	/* Longer than what the compiler would copy by itself. */
	bpf_probe_read_kernel(stall->stack, sizeof(stall->stack), thread->stack);
	bpf_ringbuf_submit(stall, BPF_RB_NO_WAKEUP);
	count(LATENCY_COUNT_EVENTS, 1);
}

/* What a worker publishes; 0 if it does not. Its thread is the current one. */
static __always_inline __u64 published(const struct latency_thread *thread, __u64 *head)
{
	__u32 number = thread->number;
	__u64 *slot;

	if (thread->role != LATENCY_WORKER)
		return 0;
	slot = bpf_map_lookup_elem(&latency_slots, &number);
	if (!slot || !*slot)
		return 0;
	if (bpf_probe_read_user(head, WINDOW_HEAD_WORDS * 8, (void *)*slot))
		return 0;
	return head[WINDOW_AT_MAGIC] == WINDOW_MAGIC ? *slot : 0;
}

/* Takes the windows that have ended since the last time. */
static __always_inline void take(struct latency_thread *thread, __u64 slot, __u64 head)
{
	__u64 taken = thread->taken;
	int i;

	/* A worker that has begun anew, or more than there is room for. */
	if (taken > head)
		taken = 0;
	if (head - taken > WINDOWS_MAX) {
		count(LATENCY_COUNT_WINDOWS_LOST, head - taken - WINDOWS_MAX);
		taken = head - WINDOWS_MAX;
	}
	for (i = 0; i < WINDOWS_AT_ONCE; i++) {
		struct latency_window *window;
		__u64 at;

		if (taken >= head)
			break;
		window = bpf_ringbuf_reserve(&latency_events, sizeof(*window), 0);
		if (!window) {
			count(LATENCY_COUNT_WINDOWS_LOST, head - taken);
			taken = head;
			break;
		}
		at = slot + WINDOW_HEAD_WORDS * 8 +
		     (taken & (WINDOWS_MAX - 1)) * WINDOW_WORDS * 8;
		window->kind = LATENCY_WINDOW;
		window->number = thread->number;
		if (bpf_probe_read_user(window->words, sizeof(window->words), (void *)at)) {
			/* The page is away: the next time. */
			bpf_ringbuf_discard(window, BPF_RB_NO_WAKEUP);
			break;
		}
		bpf_ringbuf_submit(window, BPF_RB_NO_WAKEUP);
		taken++;
	}
	count(LATENCY_COUNT_WINDOWS, taken - thread->taken);
	thread->taken = taken;
}

/* Begins to watch the current thread, if it is one of ours. */
static __always_inline void begin(struct task_struct *task, __u32 tid, __u64 now)
{
	__u64 cgroup = bpf_get_current_cgroup_id();
	__u32 *role = bpf_map_lookup_elem(&latency_roles, &cgroup);
	struct latency_thread *fresh;
	char name[COMM_BYTES] = {};
	__u32 zero = 0, number = 0;

	if (!role)
		return;
	if (*role == LATENCY_WORKER) {
		/* "worker-" and its number. */
		bpf_get_current_comm(name, sizeof(name));
		if (name[0] != 'w' || name[1] != 'o' || name[2] != 'r' || name[3] != 'k' ||
		    name[4] != 'e' || name[5] != 'r' || name[6] != '-')
			return;
		if (name[7] < '0' || name[7] > '9')
			return;
		number = name[7] - '0';
		if (name[8] >= '0' && name[8] <= '9')
			number = number * 10 + (name[8] - '0');
		if (number >= WORKERS_MAX)
			return;
	} else if (task->pid != task->tgid) {
		/* Nobody waits for the auditor's other threads. */
		return;
	}
	fresh = bpf_map_lookup_elem(&latency_fresh, &zero);
	if (!fresh)
		return;
	fresh->since_ns = now;
	fresh->doing = DOING_RUN;
	fresh->role = *role;
	fresh->number = number;
	fresh->faults_before = task->min_flt;
	fresh->reads_before = task->maj_flt;
	bpf_map_update_elem(&latency_threads, &tid, fresh, BPF_NOEXIST);
}

static __always_inline void pause(struct latency_thread *thread, struct task_struct *task, __u32 tid,
				  __u64 now, bool is_ready)
{
	__u64 ran = now - thread->since_ns, faults = task->min_flt - thread->faults_before;
	__u64 reads = task->maj_flt - thread->reads_before;
	__u64 head[WINDOW_HEAD_WORDS], slot;
	struct pt_regs *regs;
	int call;

	slot = published(thread, head);
	if (slot) {
		thread->trace = head[WINDOW_AT_TRACE];
		thread->stage = head[WINDOW_AT_STAGE];
		thread->started_ns = head[WINDOW_AT_STARTED];
	}
	thread->sums_ns[DOING_RUN] += ran;
	if (ran >= control(LATENCY_CONTROL_BUSY) ||
	    faults + reads >= control(LATENCY_CONTROL_FAULTS))
		tell_of(thread, tid, LATENCY_BUSY, thread->since_ns, now,
			reads << 32 | (__u32)faults);
	thread->since_ns = now;
	thread->woken_ns = 0;
	if (is_ready) {
		thread->doing = DOING_READY;
	} else {
		regs = (struct pt_regs *)bpf_task_pt_regs(task);
		call = regs ? CALL_OF(regs) : -1;
		thread->call = call;
		if (call < 0) {
			thread->doing = DOING_FAULT;
		} else if (IS_IDLE(call)) {
			thread->doing = DOING_IDLE;
		} else {
			thread->doing = DOING_BLOCKED;
			if (thread->role == LATENCY_WORKER) {
				thread->instruction = INSTRUCTION_OF(regs);
				bpf_probe_read_user(thread->stack, sizeof(thread->stack),
						    (void *)STACK_OF(regs));
			}
		}
	}
	/* After the events, so that whoever joins the two has seen them. */
	if (slot && head[WINDOW_AT_HEAD] != thread->taken)
		take(thread, slot, head[WINDOW_AT_HEAD]);
}

static __always_inline void go_on(struct latency_thread *thread, struct task_struct *task, __u32 tid,
				  __u64 now)
{
	__u64 since = thread->since_ns, woken = thread->woken_ns, waited;
	__u32 doing = thread->doing;

	if (doing == DOING_READY || woken < since || woken > now)
		woken = doing == DOING_READY ? since : now;
	waited = woken - since;
	if (doing == DOING_FAULT && waited >= control(LATENCY_CONTROL_FAULT))
		tell_of(thread, tid, LATENCY_FAULT, since, woken, 0);
	if (doing == DOING_BLOCKED && waited >= control(LATENCY_CONTROL_BLOCKED))
		tell_of(thread, tid, LATENCY_BLOCKED, since, woken, thread->call);
	if (doing == DOING_BLOCKED && thread->role == LATENCY_WORKER &&
	    waited >= control(LATENCY_CONTROL_STALL))
		tell_stall(thread, tid, since, woken, thread->call);
	if (doing < DOING_STATES)
		thread->sums_ns[doing] += waited;
	if (now - woken >= control(LATENCY_CONTROL_RUN_QUEUE))
		tell_of(thread, tid, LATENCY_RUN_QUEUE, woken, now, 0);
	thread->sums_ns[DOING_READY] += now - woken;
	thread->doing = DOING_RUN;
	thread->since_ns = now;
	thread->faults_before = task->min_flt;
	thread->reads_before = task->maj_flt;
}

/* Arguments: whether it was made to, task before, task after, state of the one before. */
SEC("tp_btf/sched_switch")
int latency_switch(__u64 *ctx)
{
	struct task_struct *before = (struct task_struct *)ctx[1];
	struct task_struct *after = (struct task_struct *)ctx[2];
	__u32 tid = before->pid;
	struct latency_thread *thread;
	__u64 now = bpf_ktime_get_ns();

	if (tid) {
		thread = bpf_map_lookup_elem(&latency_threads, &tid);
		if (thread)
			pause(thread, before, tid, now, ctx[0] || !(__u32)ctx[3]);
		else
			begin(before, tid, now);
	}
	tid = after->pid;
	if (tid) {
		thread = bpf_map_lookup_elem(&latency_threads, &tid);
		if (thread)
			go_on(thread, after, tid, now);
	}
	return 0;
}

SEC("tp_btf/sched_wakeup")
int latency_wakeup(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	__u32 tid = task->pid;
	struct latency_thread *thread = bpf_map_lookup_elem(&latency_threads, &tid);

	if (thread && thread->doing != DOING_RUN)
		thread->woken_ns = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/sched_process_exit")
int latency_exit(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	__u32 tid = task->pid;

	bpf_map_delete_elem(&latency_threads, &tid);
	return 0;
}

/* Timers fire, the scheduler's own among them, while a thread runs: so one that does not pause is seen. */
SEC("raw_tp/hrtimer_expire_entry")
int latency_timer(void *ctx __attribute__((unused)))
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct latency_thread *thread;
	__u64 head[WINDOW_HEAD_WORDS], slot, now;
	struct task_struct *task;
	struct pt_regs *regs;

	if (!tid)
		return 0;
	thread = bpf_map_lookup_elem(&latency_threads, &tid);
	if (!thread || thread->doing != DOING_RUN || thread->role != LATENCY_WORKER)
		return 0;
	slot = published(thread, head);
	if (!slot)
		return 0;
	now = bpf_ktime_get_ns();
	if (head[WINDOW_AT_HEAD] - thread->taken > WINDOWS_MAX / 4)
		take(thread, slot, head[WINDOW_AT_HEAD]);
	/* Many short polls without a pause are load. One long poll is a stall, whoever ran in between. */
	thread->started_ns = head[WINDOW_AT_STARTED];
	if (!head[WINDOW_AT_STAGE] || thread->started_ns > now ||
	    now - thread->started_ns < control(LATENCY_CONTROL_STALL) ||
	    thread->stalled_ns == thread->started_ns)
		return 0;
	thread->trace = head[WINDOW_AT_TRACE];
	thread->stage = head[WINDOW_AT_STAGE];
	task = bpf_get_current_task_btf();
	regs = (struct pt_regs *)bpf_task_pt_regs(task);
	thread->instruction = INSTRUCTION_OF(regs);
	bpf_probe_read_user(thread->stack, sizeof(thread->stack), (void *)STACK_OF(regs));
	tell_stall(thread, tid, thread->started_ns, now, ~0ULL);
	return 0;
}

/* Argument: request. */
SEC("raw_tp/block_rq_issue")
int latency_issue(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 request = ctx->args[0], now = bpf_ktime_get_ns();

	bpf_map_update_elem(&latency_requests, &request, &now, BPF_ANY);
	return 0;
}

/* Arguments: request, error, bytes. */
SEC("raw_tp/block_rq_complete")
int latency_complete(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 key = ctx->args[0], now = bpf_ktime_get_ns(), *begun;
	struct request *request = (struct request *)key;
	struct latency_event event = { .kind = LATENCY_DEVICE, .role = LATENCY_NOBODY };

	begun = bpf_map_lookup_elem(&latency_requests, &key);
	if (!begun)
		return 0;
	count(LATENCY_COUNT_DEVICE_REQUESTS, 1);
	count(LATENCY_COUNT_DEVICE_NS, now - *begun);
	if (now - *begun >= control(LATENCY_CONTROL_DEVICE)) {
		event.from_ns = *begun;
		event.to_ns = now;
		event.detail = (__u64)BPF_CORE_READ(request, q, disk, major) << 32 |
			       (__u32)BPF_CORE_READ(request, q, disk, first_minor);
		tell(&event);
	}
	bpf_map_delete_elem(&latency_requests, &key);
	return 0;
}

/* Arguments: socket, packet. */
SEC("raw_tp/tcp_retransmit_skb")
int latency_retransmit(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sock = (struct sock *)ctx->args[0];
	__u32 ours = BPF_CORE_READ(sock, __sk_common.skc_num);
	__u32 theirs = __builtin_bswap16(BPF_CORE_READ(sock, __sk_common.skc_dport));
	struct latency_event event = { .kind = LATENCY_RETRANSMIT, .role = LATENCY_NOBODY };

	if (!bpf_map_lookup_elem(&latency_ports, &ours) &&
	    !bpf_map_lookup_elem(&latency_ports, &theirs))
		return 0;
	count(LATENCY_COUNT_RETRANSMITS, 1);
	event.from_ns = bpf_ktime_get_ns();
	event.to_ns = event.from_ns;
	event.detail = (__u64)ours << 32 | theirs;
	tell(&event);
	return 0;
}

/* See egress.bpf.c. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";
