/*
 * Which system calls roles make once they have given up their rights: for the test that no call is on a role's
 * list without need. Never attached by a role.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "moat.h"

/* Numbers of system calls lie below. */
#define CALLS_MAX 512

/* Cgroups, each with the number of its role. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ROLES_MAX);
	__type(key, __u64);
	__type(value, __u32);
} calls_roles SEC(".maps");

/* By role and number. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ROLES_MAX * CALLS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} calls_counts SEC(".maps");

/* Arguments: registers, number. What a filter refuses does not come here. */
SEC("tp_btf/sys_enter")
int calls_enter(__u64 *ctx)
{
	__u64 cgroup = bpf_get_current_cgroup_id(), number = ctx[1], *counter;
	__u32 *role, place;

	if ((__u32)bpf_get_current_uid_gid() == 0 || number >= CALLS_MAX)
		return 0;
	role = bpf_map_lookup_elem(&calls_roles, &cgroup);
	if (!role)
		return 0;
	place = *role * CALLS_MAX + number;
	counter = bpf_map_lookup_elem(&calls_counts, &place);
	if (counter)
		__sync_fetch_and_add(counter, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
