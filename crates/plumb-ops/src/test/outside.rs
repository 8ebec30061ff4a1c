//! Checks from outside: over the network of this host, as a client comes.

use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use plumb_guest_proto::{Activity, Excerpt, MAX_LISTENING};
use plumb_model::check::HttpProbe;
use plumb_target::{MAX_OUTPUT_BYTES, plain_lines};
use ureq::Agent;
use ureq::http::Request;

use super::bench::Attempt;

/// As much of an answer's body as is read and searched.
const MAX_BODY_BYTES: u64 = 4 * 1024 * 1024;

/// A connection that the instance refuses is closed after the refusal has come back; one that is still open after this
/// time was accepted.
const SETTLE: Duration = Duration::from_secs(1);

/// A request, and whether its answer is what it must be.
pub(super) fn http(address: SocketAddr, probe: &HttpProbe, limit: Duration) -> Attempt {
    match ask(address, probe, limit) {
        Ok((status, body, is_whole)) => judge(probe, status, &body, is_whole),
        Err(reason) => Attempt::failed(reason),
    }
}

fn ask(address: SocketAddr, probe: &HttpProbe, limit: Duration) -> Result<(u16, Vec<u8>, bool), String> {
    let agent: Agent = Agent::config_builder()
        .timeout_global(Some(limit))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .proxy(None)
        .user_agent("plumb")
        .build()
        .into();
    let mut request =
        Request::builder().method(probe.method.as_str()).uri(format!("http://{address}{}", probe.path));
    for (name, value) in &probe.headers {
        request = request.header(name, value);
    }
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let answer = match &probe.body {
        Some(body) => request.body(body.as_str()).map_err(|e| told(&e)).map(|request| {
            let request = agent.configure_request(request).allow_non_standard_methods(true).build();
            agent.run(request)
        })?,
        None => request.body(()).map_err(|e| told(&e)).map(|request| agent.run(request))?,
    };
    let mut answer = answer.map_err(|error| told(&error))?;
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    let read = answer.body_mut().as_reader().take(MAX_BODY_BYTES).read_to_end(&mut body);
    read.map_err(|error| format!("the answer {status} broke off: {error}"))?;
    let is_whole = (body.len() as u64) < MAX_BODY_BYTES;
    Ok((status, body, is_whole))
}

fn judge(probe: &HttpProbe, status: u16, body: &[u8], is_whole: bool) -> Attempt {
    let mut kept = Excerpt::new(MAX_OUTPUT_BYTES);
    kept.push(format!("HTTP {status}\n").as_bytes());
    kept.push(body);
    let (output, left_out_bytes) = kept.text();
    let failure = if status != probe.status {
        Some(format!("HTTP status {status} instead of {}", probe.status))
    } else {
        let is_in = |text: &String| body.windows(text.len()).any(|part| part == text.as_bytes());
        probe.contains.as_ref().filter(|text| !is_in(text)).map(|text| {
            let part = if is_whole { "" } else { "the beginning of " };
            format!("{part}the answer does not contain {text:?}")
        })
    };
    Attempt { failure, output: plain_lines(&output), left_out_bytes }
}

/// Whether a port takes connections. The virtual network accepts before the instance does, so an open connection proves
/// nothing at once: it must last, or bring a byte, and the guest must say that something listens.
pub(super) fn tcp(address: SocketAddr, port: u16, activity: Option<&Activity>, limit: Duration) -> Attempt {
    if !listens(activity, port) {
        return Attempt::failed(format!("nothing listens on port {port}"));
    }
    match greeting(address, limit) {
        Ok(greeting) => Attempt { failure: None, output: plain_lines(&greeting), left_out_bytes: 0 },
        Err(reason) => Attempt::failed(reason),
    }
}

/// What the other side says first, if anything.
fn greeting(address: SocketAddr, limit: Duration) -> Result<String, String> {
    let mut stream = TcpStream::connect_timeout(&address, limit).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(SETTLE.min(limit))).map_err(|error| error.to_string())?;
    let mut first = [0; 1024];
    match stream.read(&mut first) {
        Ok(0) => Err("the connection was closed at once".to_owned()),
        Ok(count) => Ok(String::from_utf8_lossy(&first[..count]).into_owned()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Ok(String::new())
        }
        Err(error) => Err(format!("the connection was closed at once: {error}")),
    }
}

/// A guest that has not said, or that has more ports than it says, is believed.
fn listens(activity: Option<&Activity>, port: u16) -> bool {
    let Some(activity) = activity.filter(|activity| activity.listening.len() < MAX_LISTENING) else {
        return true;
    };
    activity.listening.iter().any(|open| open.protocol == "tcp" && open.port == port && !open.loopback)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;

    use plumb_guest_proto::Listening;
    use plumb_model::check::MachinePort;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn probe() -> HttpProbe {
        HttpProbe {
            at: MachinePort { machine: "web".parse().expect("name"), port: 80 },
            path: "/a?b".into(),
            method: "GET".into(),
            headers: Default::default(),
            body: None,
            status: 200,
            contains: None,
        }
    }

    /// The verdict about `answer`, and the request that was sent.
    fn exchange(probe: &HttpProbe, answer: &'static str) -> (Attempt, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a connection");
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            // The body of the one request that has one.
            let is_over = |request: &[u8]| {
                let end = if request.starts_with(b"POST") { &b"ann"[..] } else { b"\r\n\r\n" };
                request.ends_with(end)
            };
            while !is_over(&request) {
                let count = socket.read(&mut chunk).expect("request");
                request.extend_from_slice(&chunk[..count]);
            }
            socket.write_all(answer.as_bytes()).expect("answer");
            String::from_utf8_lossy(&request).into_owned()
        });
        let attempt = http(address, probe, LIMIT);
        (attempt, server.join().expect("server"))
    }

    #[test]
    fn requests_and_answers() {
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let (good, request) = exchange(&probe(), ok);
        assert_eq!((good.failure, good.output.as_str()), (None, "HTTP 200\nhello"));
        assert!(request.starts_with("GET /a?b HTTP/1.1\r\n"), "{request}");
        let wanted = HttpProbe { contains: Some("hell no".into()), ..probe() };
        let failure = exchange(&wanted, ok).0.failure;
        assert_eq!(failure.as_deref(), Some("the answer does not contain \"hell no\""));
        let wanted = HttpProbe { contains: Some("ell".into()), ..probe() };
        assert_eq!(exchange(&wanted, ok).0.failure, None);
        let moved = "HTTP/1.1 303 See Other\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
        let post = HttpProbe {
            method: "POST".into(),
            body: Some("customer=ann".into()),
            status: 303,
            headers: [("Host".to_owned(), "shop.example".to_owned())].into(),
            ..probe()
        };
        let (posted, request) = exchange(&post, moved);
        assert_eq!(posted.failure, None, "a redirection is an answer");
        assert!(request.to_ascii_lowercase().contains("host: shop.example\r\n"), "{request}");
        assert!(request.starts_with("POST ") && request.ends_with("customer=ann"), "{request}");
        let failure = exchange(&probe(), moved).0.failure;
        assert_eq!(failure.as_deref(), Some("HTTP status 303 instead of 200"));
        let removed = HttpProbe { method: "DELETE".into(), ..probe() };
        assert!(exchange(&removed, ok).1.starts_with("DELETE /a?b"));
    }

    #[test]
    fn what_a_server_says_is_safe_to_print() {
        let (evil, _) = exchange(&probe(), "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\u{1b}[2J");
        assert_eq!(evil.output, "HTTP 200\n\u{fffd}[2J");
    }

    #[test]
    fn ports_that_take_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let silent = tcp(address, 1, None, LIMIT);
        assert_eq!((silent.failure, silent.output.as_str()), (None, ""));
        let greeter = std::thread::spawn(move || {
            // The first is the one above.
            drop(listener.accept().expect("connection"));
            let (mut socket, _) = listener.accept().expect("connection");
            socket.write_all(b"SSH-2.0-x\r\n").expect("greeting");
            let (socket, _) = listener.accept().expect("connection");
            drop(socket);
        });
        assert_eq!(tcp(address, 1, None, LIMIT).output, "SSH-2.0-x\n");
        assert!(tcp(address, 1, None, LIMIT).failure.is_some_and(|why| why.contains("closed at once")));
        greeter.join().expect("greeter");
        assert!(tcp(address, 1, None, LIMIT).failure.is_some(), "nobody is there any more");
        let open = |port, loopback| Listening { protocol: "tcp".into(), port, loopback };
        let activity = Activity { processes: 1, listening: vec![open(80, false), open(25, true)] };
        assert!(
            listens(Some(&activity), 80) && !listens(Some(&activity), 25) && !listens(Some(&activity), 81)
        );
    }
}
