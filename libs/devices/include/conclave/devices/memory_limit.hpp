// The memory that a process may use: the smallest limit of the control groups it is in, and what is
// left of it and of the machine.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace conclave::devices {

/// The least limit, in bytes, among the process's cgroup (v2 memory.max or v1
/// memory.limit_in_bytes) and its ancestors; nothing if none has one. Reads below `root`, which is
/// "/" except in tests: proc/self/cgroup and sys/fs/cgroup.
std::optional<std::uint64_t> cgroup_memory_limit(const std::filesystem::path& root = "/");

/// Bytes that this process could still take without anybody being killed: the least of what the
/// system has available (MemAvailable) and what its control groups leave (limit less usage, where
/// pages of files do not count since they can be dropped). Nothing if the system does not tell.
/// Others take memory too: it is true for a moment. `root` as above, and proc/meminfo.
std::optional<std::uint64_t> available_memory(const std::filesystem::path& root = "/");

}  // namespace conclave::devices
