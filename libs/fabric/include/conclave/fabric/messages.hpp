// The message structs of wire as CAF messages, and the typed handles of the actors that services
// publish. Messages are immutable and shared between actors of a process; only the fabric encodes.
#pragma once

#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/typed_actor.hpp>

#include "conclave/wire/message.hpp"

#define CONCLAVE_FABRIC_MESSAGE(type) CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::wire::type)
CONCLAVE_FABRIC_MESSAGE(Generate)
CONCLAVE_FABRIC_MESSAGE(Accepted)
CONCLAVE_FABRIC_MESSAGE(TokenEvents)
CONCLAVE_FABRIC_MESSAGE(CancelStream)
CONCLAVE_FABRIC_MESSAGE(TokenizeRequest)
CONCLAVE_FABRIC_MESSAGE(TokenizeReply)
CONCLAVE_FABRIC_MESSAGE(DetokenizeRequest)
CONCLAVE_FABRIC_MESSAGE(DetokenizeReply)
CONCLAVE_FABRIC_MESSAGE(NodeReport)
CONCLAVE_FABRIC_MESSAGE(ReportReply)
CONCLAVE_FABRIC_MESSAGE(Nudge)
CONCLAVE_FABRIC_MESSAGE(FleetRequest)
CONCLAVE_FABRIC_MESSAGE(Fleet)
CONCLAVE_FABRIC_MESSAGE(RegisterModel)
CONCLAVE_FABRIC_MESSAGE(ResolveModel)
CONCLAVE_FABRIC_MESSAGE(ListModels)
CONCLAVE_FABRIC_MESSAGE(ModelList)
CONCLAVE_FABRIC_MESSAGE(ModelRecord)
CONCLAVE_FABRIC_MESSAGE(SetAlias)
CONCLAVE_FABRIC_MESSAGE(DigestsRequest)
CONCLAVE_FABRIC_MESSAGE(ModelDigests)
CONCLAVE_FABRIC_MESSAGE(AdminRequest)
CONCLAVE_FABRIC_MESSAGE(AdminReply)
CONCLAVE_FABRIC_MESSAGE(KeyQuestion)
CONCLAVE_FABRIC_MESSAGE(KeyAnswer)
CONCLAVE_FABRIC_MESSAGE(UsageBatch)
CONCLAVE_FABRIC_MESSAGE(Recorded)
CONCLAVE_FABRIC_MESSAGE(LeaseRequest)
CONCLAVE_FABRIC_MESSAGE(LeaseReply)
CONCLAVE_FABRIC_MESSAGE(AuditEvent)
CONCLAVE_FABRIC_MESSAGE(DeploymentsRequest)
CONCLAVE_FABRIC_MESSAGE(DeploymentList)
CONCLAVE_FABRIC_MESSAGE(CatalogChanged)
CONCLAVE_FABRIC_MESSAGE(StateRequest)
CONCLAVE_FABRIC_MESSAGE(StateReply)
#undef CONCLAVE_FABRIC_MESSAGE

namespace conclave::fabric {

/// Names under which services publish their actors.
inline constexpr const char* kInferenceActor = "inference";  // router
inline constexpr const char* kStreamsActor = "streams";      // gateway: hears token events
inline constexpr const char* kFleetActor = "fleet";          // scheduler
inline constexpr const char* kReporterActor = "reporter";    // every node but the scheduler
inline constexpr const char* kCatalogActor = "catalog";      // registry
inline constexpr const char* kLedgerActor = "ledger";        // registry
inline constexpr const char* kAdminActor = "admin";          // registry, scheduler
inline constexpr const char* kWatcherActor = "watcher";      // gateway, scheduler

using InferenceActor =
    caf::typed_actor<caf::replies_to<wire::Generate>::with<wire::Accepted>,
                     caf::reacts_to<wire::CancelStream>,
                     caf::replies_to<wire::TokenizeRequest>::with<wire::TokenizeReply>,
                     caf::replies_to<wire::DetokenizeRequest>::with<wire::DetokenizeReply>>;

using StreamsActor = caf::typed_actor<caf::reacts_to<wire::TokenEvents>>;

using FleetActor = caf::typed_actor<caf::replies_to<wire::NodeReport>::with<wire::ReportReply>,
                                    caf::replies_to<wire::FleetRequest>::with<wire::Fleet>>;

using ReporterActor = caf::typed_actor<caf::reacts_to<wire::Nudge>>;

using CatalogActor =
    caf::typed_actor<caf::replies_to<wire::RegisterModel>::with<wire::ModelRecord>,
                     caf::replies_to<wire::ResolveModel>::with<wire::ModelRecord>,
                     caf::replies_to<wire::ListModels>::with<wire::ModelList>,
                     caf::replies_to<wire::SetAlias>::with<wire::ModelRecord>,
                     caf::replies_to<wire::DigestsRequest>::with<wire::ModelDigests>,
                     caf::replies_to<wire::DeploymentsRequest>::with<wire::DeploymentList>>;

using LedgerActor = caf::typed_actor<caf::replies_to<wire::KeyQuestion>::with<wire::KeyAnswer>,
                                     caf::replies_to<wire::UsageBatch>::with<wire::Recorded>,
                                     caf::replies_to<wire::LeaseRequest>::with<wire::LeaseReply>,
                                     caf::replies_to<wire::AuditEvent>::with<wire::Recorded>>;

/// Hears from registries that what they said before may not be true any more.
using WatcherActor = caf::typed_actor<caf::reacts_to<wire::CatalogChanged>>;

using AdminActor = caf::typed_actor<caf::replies_to<wire::AdminRequest>::with<wire::AdminReply>>;

}  // namespace conclave::fabric
