#include "conclave/artifacts/location.hpp"

#include <algorithm>
#include <utility>

#include "conclave/base/text.hpp"

namespace conclave::artifacts {

using base::ErrorCode;
using base::fail;
using base::Result;

namespace {

constexpr std::string_view kFile = "file://";
constexpr std::string_view kS3 = "s3://";

tl::unexpected<base::Error> refuse(std::string_view uri, const std::string& why) {
  return fail(ErrorCode::kInvalidArgument, base::shown(uri) + " " + why);
}

// host[:port] of an address, or a bucket: what is between the slashes.
std::string_view authority_of(std::string_view uri) {
  const std::size_t from = uri.find("://") + 3;
  return uri.substr(from, uri.find_first_of("/?#", from) - from);
}

// Names that S3 has, and those of the servers that speak like it.
bool is_bucket(std::string_view name) {
  const auto is_good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '.' || c == '_';
  };
  return name.size() >= 3 && name.size() <= 63 && std::ranges::all_of(name, is_good) &&
         name.find("..") == std::string_view::npos;
}

}  // namespace

bool has_scheme(std::string_view uri) { return uri.find("://") != std::string_view::npos; }

Result<Location> Location::parse(std::string_view uri) {
  if (uri.size() > kUriBytesMax) {
    return refuse(uri, "is longer than " + std::to_string(kUriBytesMax) + " bytes");
  }
  if (uri.find('\0') != std::string_view::npos) return refuse(uri, "has a zero in it");
  if (uri.starts_with(kFile) || !has_scheme(uri)) {
    const std::string_view path = uri.starts_with(kFile) ? uri.substr(kFile.size()) : uri;
    if (!path.starts_with('/')) {
      return refuse(uri, "is no absolute path, as the path of a model must be");
    }
    return Location(Scheme::kFile, std::filesystem::path(path).lexically_normal().string());
  }
  if (std::ranges::any_of(uri, [](char c) { return static_cast<unsigned char>(c) < 0x20; })) {
    return refuse(uri, "has control characters");
  }
  const std::string_view authority = authority_of(uri);
  if (uri.starts_with(kS3)) {
    if (!is_bucket(authority)) return refuse(uri, "is not s3://BUCKET/KEY: that is no bucket");
    if (uri.size() <= kS3.size() + authority.size() + 1 || uri.back() == '/') {
      return refuse(uri, "is not s3://BUCKET/KEY: it has no key");
    }
    return Location(Scheme::kS3, std::string(uri));
  }
  if (!uri.starts_with("http://") && !uri.starts_with("https://")) {
    return refuse(uri, "is neither a path nor file://, http://, https:// or s3://");
  }
  if (authority.empty() || authority.front() == ':') return refuse(uri, "names no host");
  if (authority.find('@') != std::string_view::npos) {
    return fail(ErrorCode::kInvalidArgument,
                "an address with a user's name in it would be recorded and shown: give access "
                "another way");
  }
  if (uri.find_first_of(" \"<>\\^`{|}") != std::string_view::npos) {
    return refuse(uri, "has characters that an address must encode");
  }
  Location location(Scheme::kHttp, std::string(uri.substr(0, uri.find('#'))));
  if (location.file_name().empty()) return refuse(uri, "names no file");
  return location;
}

std::size_t Location::path_end() const {
  if (scheme_ != Scheme::kHttp) return text_.size();
  return std::min(text_.find('?'), text_.size());
}

std::string Location::shown() const { return text_.substr(0, path_end()); }

std::string Location::bucket() const { return std::string(authority_of(text_)); }

std::string Location::key() const { return text_.substr(kS3.size() + bucket().size() + 1); }

std::string Location::file_name() const {
  const std::string path = shown();
  const std::size_t host = scheme_ == Scheme::kFile ? 0 : path.find("://") + 3;
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos || slash < host ? "" : path.substr(slash + 1);
}

Result<Location> Location::with_end(std::string_view end, std::string_view other) const {
  const std::size_t size = path_end();
  const std::string path = text_.substr(0, size);
  if (!path.ends_with(end)) {
    return fail(ErrorCode::kNotFound,
                shown() +
                    " is part of a split model, whose parts are found by name: it must end "
                    "in " +
                    std::string(end));
  }
  return Location(scheme_,
                  path.substr(0, size - end.size()) + std::string(other) + text_.substr(size));
}

}  // namespace conclave::artifacts
