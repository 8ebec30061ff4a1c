//! Keeps notes in memory: POST adds one, GET lists them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("0.0.0.0:8000")?;
    let mut notes: Vec<String> = Vec::new();
    println!("listening on port 8000");
    for stream in listener.incoming() {
        // A client that goes away half way is no reason to end.
        if let Err(error) = stream.and_then(|stream| answer(stream, &mut notes)) {
            eprintln!("a client went away: {error}");
        }
    }
    Ok(())
}

fn answer(mut stream: TcpStream, notes: &mut Vec<String>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0).min(4096);
        }
    }
    if request.starts_with("POST ") {
        let mut note = vec![0; length];
        reader.read_exact(&mut note)?;
        notes.push(String::from_utf8_lossy(&note).into_owned());
    }
    let body: String = notes.iter().map(|note| format!("{note}\n")).collect();
    write!(stream, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
