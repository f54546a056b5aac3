// The memory that a container may use: the smallest limit of the control groups it is in.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace conclave::devices {

/// The least limit, in bytes, among the process's cgroup (v2 memory.max or v1
/// memory.limit_in_bytes) and its ancestors; nothing if none has one. Reads below `root`, which is
/// "/" except in tests: proc/self/cgroup and sys/fs/cgroup.
std::optional<std::uint64_t> cgroup_memory_limit(const std::filesystem::path& root = "/");

}  // namespace conclave::devices
