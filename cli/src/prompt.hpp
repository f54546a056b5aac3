// From what the user typed to the tokens of a prompt.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/engine/local_model.hpp"

namespace conclave::cli {

/// The text as it is: special tokens in it are parsed, BOS is added as the vocabulary asks.
base::Result<std::vector<std::int32_t>> plain_prompt(const engine::LocalModel& model,
                                                     const std::string& text);

/// A user's message (and a system message, unless empty) through the model's chat template.
/// kNotFound: the file has none.
base::Result<std::vector<std::int32_t>> chat_prompt(const engine::LocalModel& model,
                                                    const std::string& system,
                                                    const std::string& user);

}  // namespace conclave::cli
