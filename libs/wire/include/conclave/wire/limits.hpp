// Bounds of what one message may hold, checked by decoders before anything is allocated for it.
// They are the contract's, not a process's: settings may only be tighter.
#pragma once

#include <cstddef>
#include <cstdint>

namespace conclave::wire {

/// Names of nodes, actors, models, aliases, devices.
inline constexpr std::size_t kNameBytesMax = 256;
/// Addresses, URIs and paths (PATH_MAX).
inline constexpr std::size_t kUriBytesMax = 4096;
/// References to models: "name@alias" or "name:version".
inline constexpr std::size_t kReferenceBytesMax = 2 * kNameBytesMax + 1;
/// Messages of errors, for people.
inline constexpr std::size_t kErrorBytesMax = 4096;
/// What a client may choose as its request id.
inline constexpr std::size_t kRequestIdBytesMax = 128;
/// A salt of the prefix cache: a secret, or the name of a tenant.
inline constexpr std::size_t kCacheSaltBytesMax = 256;
/// A prompt or conversation: four times the longest context of an open model (1 Mi tokens) at about
/// four bytes a token, as the tokenizer bounds it.
inline constexpr std::size_t kPromptBytesMax = std::size_t{16} << 20;
/// Tokens of a prompt: four times the longest context.
inline constexpr std::size_t kPromptTokensMax = std::size_t{4} << 20;
/// Choices (`n`) of one request; OpenAI's own limit.
inline constexpr std::size_t kChoicesMax = 128;
/// Stop strings, and stop tokens, of one request (OpenAI allows 4 strings, vLLM any number), and
/// the bytes of each string.
inline constexpr std::size_t kStopsMax = 32;
inline constexpr std::size_t kStopBytesMax = 1024;
/// OpenAI clients may bias up to 300 tokens; some tools send whole lists of words.
inline constexpr std::size_t kLogitBiasMax = 1024;
inline constexpr std::size_t kTopLogprobsMax = 128;
/// The bytes of one token, and the text that becomes certain with one: the token and what a stop
/// string had held back. The longest tokens of open vocabularies have about 1 KiB.
inline constexpr std::size_t kPieceBytesMax = std::size_t{64} << 10;
/// Tokens in one event message: those of one step for one gateway, or a part of an echoed prompt.
inline constexpr std::size_t kTokensPerMessageMax = std::size_t{64} << 10;
/// Nodes of one fleet.
inline constexpr std::size_t kNodesMax = 4096;
/// Layers, and experts a layer, of one model (the largest open ones: 94 and 512).
inline constexpr std::size_t kLayersMax = 1024;
inline constexpr std::size_t kExpertsMax = 4096;
/// Experts of all layers together.
inline constexpr std::size_t kAllExpertsMax = std::size_t{1} << 20;
/// Entries of all pools of a routing table: four replicas of every one of so many experts.
inline constexpr std::size_t kPoolEntriesMax = 4 * kAllExpertsMax;
/// Versions of models that a node has open, or a fleet serves, at once: a backbone in every router
/// each.
inline constexpr std::size_t kVersionsMax = 8;
/// Refused experts of one report: a file that is wrong throughout needs no longer list.
inline constexpr std::size_t kRefusedMax = 64;
/// Deployments, the versions that share one's traffic, and its pinning rules; all of them travel.
inline constexpr std::size_t kDeploymentsMax = 1000;
inline constexpr std::size_t kSplitsMax = 16;
inline constexpr std::size_t kPinsMax = 64;
/// What is kept for the holder of a lease: cordons, pins and the history of a scheduler's plans.
inline constexpr std::size_t kStateBytesMax = std::size_t{256} << 10;
/// Versions in one listing (longer ones are paged), and aliases of one version.
inline constexpr std::size_t kListMax = 1000;
/// Paths and queries of administration; a client's whole request line has 8 KiB in most servers.
inline constexpr std::size_t kAdminTargetBytesMax = std::size_t{8} << 10;
/// JSON that an administrator sends: a version's free metadata is the largest, with 64 KiB.
inline constexpr std::size_t kAdminBodyBytesMax = std::size_t{1} << 20;
/// Rows of usage in one message: of that many (key, model, day) a gateway keeps count at once.
inline constexpr std::size_t kUsageRowsMax = 10'000;
/// Models that one API key names.
inline constexpr std::size_t kKeyModelsMax = 64;
/// Rows, and pairs, of one expert call, and the width of a row.
inline constexpr std::size_t kCallRowsMax = 1u << 16;
inline constexpr std::size_t kCallPairsMax = 1u << 20;
inline constexpr std::size_t kHiddenMax = 1u << 16;
/// A control message as a whole; the digests of the largest model take 3 MB.
inline constexpr std::size_t kMessageBytesMax = std::size_t{64} << 20;
/// The payload of a data call; 4096 rows of 8192 floats to 8 experts each.
inline constexpr std::size_t kPayloadBytesMax = std::size_t{1} << 30;

}  // namespace conclave::wire
