# CloudFront before Headwater's origin. Three behaviours, and for each value the reason; docs/cdn.md says what is meant by it.
#   terraform init && terraform apply -var origin_domain=origin.example.net -var origin_secret=…

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "origin_domain" {
  description = "The name of the origin, for which [origin_tls] has a certificate"
  type        = string
}

variable "origin_port" {
  description = "The port of [origin_tls]"
  type        = number
  default     = 8443
}

variable "origin_secret" {
  description = "One of origin.cdn_secrets. To exchange it: add the new one to the config as the second, apply it here, take the old one away"
  type        = string
  sensitive   = true
}

variable "shield_region" {
  description = "The region of Origin Shield: the one that is nearest to the origin"
  type        = string
  default     = "eu-central-1"
}

# Playlists. Of the query only what changes the answer, so that all players of one URL make one request; all else (tokens of
# other systems, campaign marks) neither splits the cache nor reaches the origin.
resource "aws_cloudfront_cache_policy" "playlists" {
  name = "headwater-playlists"

  # The origin says how long: half a target duration, or 6 target durations for a URL with _HLS_msn, which never changes.
  # A minimum above 0 would override it, also for `no-store`; the maximum is the longest that the origin ever says of a playlist
  # (6 times 20 s).
  min_ttl     = 0
  default_ttl = 0
  max_ttl     = 120

  parameters_in_cache_key_and_forwarded_to_origin {
    query_strings_config {
      query_string_behavior = "whitelist"
      query_strings {
        items = ["_HLS_msn", "_HLS_part", "_HLS_skip", "start", "end"]
      }
    }
    headers_config {
      # No Origin: the origin allows all (Access-Control-Allow-Origin: *), and with it every site would have its own copies.
      header_behavior = "none"
    }
    cookies_config {
      cookie_behavior = "none"
    }
    # Accept-Encoding becomes "gzip" or nothing. The origin has no Brotli, so a third spelling would only split the cache.
    enable_accept_encoding_gzip   = true
    enable_accept_encoding_brotli = false
  }
}

# Segments, parts and initialisation segments: bytes that never change under their URL, and no query at all.
resource "aws_cloudfront_cache_policy" "media" {
  name        = "headwater-media"
  min_ttl     = 0
  default_ttl = 0
  # As the origin says of them.
  max_ttl = 1209600

  parameters_in_cache_key_and_forwarded_to_origin {
    query_strings_config {
      query_string_behavior = "none"
    }
    headers_config {
      header_behavior = "none"
    }
    cookies_config {
      cookie_behavior = "none"
    }
    # They do not become smaller.
    enable_accept_encoding_gzip   = false
    enable_accept_encoding_brotli = false
  }
}

resource "aws_cloudfront_distribution" "live" {
  enabled         = true
  is_ipv6_enabled = true
  comment         = "Headwater"
  # Low-latency players ask for playlist and parts at one time over one connection.
  http_version = "http2and3"

  origin {
    origin_id   = "headwater"
    domain_name = var.origin_domain

    custom_origin_config {
      http_port              = 80
      https_port             = var.origin_port
      origin_protocol_policy = "https-only"
      origin_ssl_protocols   = ["TLSv1.2"]
      # The origin holds a request with _HLS_msn for up to three target durations, 12 s at the default of 4 s, and 55 s at most.
      origin_read_timeout = 60
      # The origin closes idle connections after 30 s; CloudFront should do so first.
      origin_keepalive_timeout = 25
    }

    # [origin] cdn_secret_header and cdn_secrets: who finds the origin's name gets nothing from it.
    custom_header {
      name  = "X-Origin-Secret"
      value = var.origin_secret
    }

    # All edges ask by way of one cache: a URL costs the origin one request, and not one for each region.
    origin_shield {
      enabled              = true
      origin_shield_region = var.shield_region
    }

    # A dead connection is tried again at once, and the viewer waits no longer than a segment.
    connection_attempts = 2
    connection_timeout  = 2
  }

  # Playlists, and whatever is neither playlist nor media (the pages): short copies.
  default_cache_behavior {
    target_origin_id       = "headwater"
    viewer_protocol_policy = "https-only"
    allowed_methods        = ["GET", "HEAD", "OPTIONS"]
    cached_methods         = ["GET", "HEAD", "OPTIONS"]
    cache_policy_id        = aws_cloudfront_cache_policy.playlists.id
    # The origin has compressed them already, once for all.
    compress = false
  }

  dynamic "ordered_cache_behavior" {
    for_each = ["*.m4s", "*.mp4", "*.ts"]
    content {
      path_pattern           = ordered_cache_behavior.value
      target_origin_id       = "headwater"
      viewer_protocol_policy = "https-only"
      allowed_methods        = ["GET", "HEAD", "OPTIONS"]
      cached_methods         = ["GET", "HEAD", "OPTIONS"]
      cache_policy_id        = aws_cloudfront_cache_policy.media.id
      compress               = false
    }
  }

  # CloudFront keeps errors for 10 s unless told otherwise: a player that asks for the next segment a moment too soon would be
  # without it for that long. It keeps them for the greater of this and the origin's max-age, and for this where the origin says
  # `no-store`, so that 403 and 503 must be 0.
  dynamic "custom_error_response" {
    for_each = { 400 = 1, 404 = 1, 403 = 0, 416 = 0, 500 = 0, 502 = 1, 503 = 0, 504 = 1 }
    content {
      error_code            = custom_error_response.key
      error_caching_min_ttl = custom_error_response.value
    }
  }

  restrictions {
    geo_restriction {
      restriction_type = "none"
    }
  }

  viewer_certificate {
    # With a name of your own: acm_certificate_arn, ssl_support_method = "sni-only", and `aliases` above.
    cloudfront_default_certificate = true
  }
}

output "domain" {
  value = aws_cloudfront_distribution.live.domain_name
}
