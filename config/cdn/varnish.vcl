# Varnish as a cache before Headwater's origin: /etc/varnish/default.vcl, for Varnish 6.0 and newer. What it does and why:
# docs/cdn.md. It wakes everybody who waits for a playlist the moment it comes, which nginx does only every 500 ms: take it for
# parts shorter than that. TLS and HTTP/2 are for what stands before it (hitch, or a CDN).
vcl 4.1;

backend default {
    .host = "127.0.0.1";
    .port = "8080";
    .connect_timeout = 2s;
    # The origin holds a request with _HLS_msn, and one for a hinted part, for up to three target durations, and 55 s at most.
    .first_byte_timeout = 60s;
    .between_bytes_timeout = 10s;
    # No probe: there is no other origin to go to, and one that is back should not be waited for.
}

sub vcl_recv {
    # One of origin.cdn_secrets, so that the origin answers nobody else.
    # set req.http.X-Origin-Secret = "the value";

    if (req.url ~ "^/api/") {
        # Encoders ask the origin itself, by the address that they push to.
        return (synth(404));
    }
    if (req.method != "GET" && req.method != "HEAD") {
        return (pass);
    }
    if (req.url ~ "[?&]token=") {
        # A playback token in the query is a matter between one viewer and the origin. (One in the path is part of the URL.)
        return (pass);
    }
    if (req.url ~ "\.m3u8\?(.*&)?(start|end)=") {
        # A range of time in the query is seldom asked for twice in the same words. (As a path, /range/START/END/, it is cached.)
        return (pass);
    }
    # Of the query, only what changes the answer; in one order, so that it makes one copy.
    set req.http.X-Path = regsub(req.url, "\?.*$", "");
    if (req.http.X-Path ~ "\.m3u8$" && req.url ~ "[?&]_HLS_(msn|part|skip)=") {
        set req.http.X-Directives = "";
        if (req.url ~ "[?&]_HLS_msn=") {
            set req.http.X-Directives =
                req.http.X-Directives + "&_HLS_msn=" + regsub(req.url, "^.*[?&]_HLS_msn=([^&]*).*$", "\1");
        }
        if (req.url ~ "[?&]_HLS_part=") {
            set req.http.X-Directives =
                req.http.X-Directives + "&_HLS_part=" + regsub(req.url, "^.*[?&]_HLS_part=([^&]*).*$", "\1");
        }
        if (req.url ~ "[?&]_HLS_skip=") {
            set req.http.X-Directives =
                req.http.X-Directives + "&_HLS_skip=" + regsub(req.url, "^.*[?&]_HLS_skip=([^&]*).*$", "\1");
        }
        set req.url = req.http.X-Path + regsub(req.http.X-Directives, "^&", "?");
    } else {
        set req.url = req.http.X-Path;
    }
    unset req.http.X-Path;
    unset req.http.X-Directives;
    # The same for every viewer.
    unset req.http.Cookie;
    return (hash);
}

sub vcl_hash {
    # By the URL alone: there is one origin, whatever name it is asked under.
    hash_data(req.url);
    return (lookup);
}

sub vcl_backend_response {
    # How long a copy is good is said by the origin, errors included (a 404: one second). After that it is not handed out while
    # a newer one is fetched: a live playlist that is old stalls the player.
    set beresp.grace = 0s;
    set beresp.keep = 0s;
    if (beresp.http.Cache-Control ~ "no-store|private") {
        # Refusals. Varnish would else remember for two minutes that this URL is not to be shared, and send everybody on.
        set beresp.ttl = 0s;
        return (deliver);
    }
    return (deliver);
}

sub vcl_backend_error {
    # The origin cannot be reached: one second, as for any other error.
    set beresp.ttl = 1s;
    set beresp.grace = 0s;
    set beresp.http.Cache-Control = "no-store";
    set beresp.http.Access-Control-Allow-Origin = "*";
    set beresp.http.Retry-After = "1";
}

sub vcl_deliver {
    if (obj.hits > 0) {
        set resp.http.X-Cache-Status = "HIT";
    } else {
        set resp.http.X-Cache-Status = "MISS";
    }
    unset resp.http.X-Varnish;
    unset resp.http.Via;
}
