//! One request through a [`Proxy`](super::Proxy), and its answer back.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::Answer;
use super::gate::Gate;
use super::proxy::{End, Fault, Request, Shared};

/// What becomes of the connection.
pub(super) enum After {
    Next,
    /// It ends when the other side has read the answer.
    Close,
    End(End),
}

/// The request and both ways.
pub(super) struct Exchange {
    pub(super) request: Request,
    pub(super) record: Shared,
    pub(super) fault: Option<Fault>,
    pub(super) gate: Arc<Gate>,
    pub(super) reader: BufReader<TcpStream>,
    pub(super) client: TcpStream,
}

impl Exchange {
    /// Does it.
    pub(super) fn run(&mut self, upstream: &str) -> io::Result<After> {
        let (request, length) = (self.request.clone(), self.request.length());
        match self.fault.clone() {
            Some(Fault::Answer(make)) => {
                self.up(&mut io::sink(), length)?;
                self.answer(&make(&request).unwrap_or_else(|| Answer::status(500)))?;
                return Ok(After::Next);
            }
            Some(Fault::Early(answer)) => {
                self.answer(&answer.header("Connection", "close"))?;
                return Ok(After::Close);
            }
            _ => {}
        }
        let mut registry = TcpStream::connect(upstream)?;
        let mut head = format!("{} {} HTTP/1.0\r\n", request.method, request.path);
        request.headers.iter().filter(|(name, _)| name != "connection").for_each(|(name, value)| {
            head += &format!("{name}: {value}\r\n");
        });
        registry.write_all(format!("{head}\r\n").as_bytes())?;
        let cut = if let Some(Fault::Up(after, _)) = self.fault { after.min(length) } else { length };
        let whole = self.up(&mut registry, cut)?;
        if let Some(Fault::Up(_, end)) = self.fault {
            return Ok(After::End(end));
        }
        let mut from_registry = BufReader::with_capacity(64 << 10, registry);
        let Some((first, headers)) = read_head(&mut from_registry)? else { return Ok(After::End(End::Close)) };
        match self.fault {
            Some(Fault::Lost(end)) => return Ok(After::End(end)),
            Some(Fault::Delay(time)) => std::thread::sleep(time),
            _ => {}
        }
        let mut answer = Answer { headers, ..Answer::status(first[9..12].parse().map_err(io::Error::other)?) };
        if let Some(Fault::Alter(alter)) = &self.fault {
            alter(&mut answer);
        }
        let after = self.pass_on(&answer, &mut from_registry)?;
        Ok(if whole { after } else { After::Close })
    }

    /// Sends the registry's answer on.
    fn pass_on(&mut self, answer: &Answer, from: &mut impl Read) -> io::Result<After> {
        let length = answer.headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.parse());
        let length: Option<u64> = length.transpose().map_err(io::Error::other)?;
        self.head(answer)?;
        let bodiless = self.request.method == "HEAD" || answer.status == 204;
        let mut left = if bodiless { 0 } else { length.unwrap_or(u64::MAX) };
        let (mut buffer, mut at) = (vec![0; 64 << 10], 0);
        while left > 0 {
            if let Some(Fault::Down(after, end)) = self.fault
                && at >= after
            {
                return Ok(After::End(end));
            }
            let until_cut = if let Some(Fault::Down(after, _)) = self.fault { after - at } else { u64::MAX };
            let most = left.min(until_cut).min(buffer.len() as u64) as usize;
            let read = from.read(&mut buffer[..most])?;
            if read == 0 {
                return Ok(After::End(End::Close));
            }
            if let Some(Fault::FlipDown(flip)) = self.fault {
                change(&mut buffer[..read], at, flip);
            }
            self.gate.pass(&self.request, read);
            self.client.write_all(&buffer[..read])?;
            self.count(|request| request.given += read as u64);
            (at, left) = (at + read as u64, left - read as u64);
        }
        Ok(if length.is_some() || bodiless { After::Next } else { After::End(End::Close) })
    }

    /// Passes on so many bytes of the request's body; `false` when the registry took fewer.
    fn up(&mut self, to: &mut impl Write, length: u64) -> io::Result<bool> {
        let (mut buffer, mut at) = (vec![0; 64 << 10], 0);
        while at < length {
            let most = (length - at).min(buffer.len() as u64) as usize;
            let read = self.reader.read(&mut buffer[..most])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(Fault::FlipUp(flip)) = self.fault {
                change(&mut buffer[..read], at, flip);
            }
            self.count(|request| request.taken += read as u64);
            at += read as u64;
            self.gate.pass(&self.request, read);
            if to.write_all(&buffer[..read]).is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends an answer of the proxy's own.
    fn answer(&mut self, answer: &Answer) -> io::Result<()> {
        self.head(&answer.clone().header("Content-Length", answer.body.len().to_string()))?;
        if self.request.method != "HEAD" {
            self.client.write_all(&answer.body)?;
        }
        Ok(())
    }

    fn head(&mut self, answer: &Answer) -> io::Result<()> {
        self.count(|request| request.status = answer.status);
        let mut head = format!("HTTP/1.1 {} Status\r\n", answer.status);
        answer.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        self.client.write_all(format!("{head}\r\n").as_bytes())
    }

    /// Gives the client time to read an answer that came before the end of its request.
    pub(super) fn linger(&mut self) -> io::Result<()> {
        self.client.shutdown(Shutdown::Write)?;
        // It closes the connection itself when it has read the answer.
        self.client.set_read_timeout(Some(Duration::from_secs(10)))?;
        io::copy(&mut (&mut self.reader).take(16 << 20), &mut io::sink()).map(drop)
    }

    fn count(&self, count: impl FnOnce(&mut Request)) {
        count(&mut self.record.lock().unwrap());
    }
}

/// Changes the byte at `flip` if it is among these, which begin at `at`.
fn change(bytes: &mut [u8], at: u64, flip: u64) {
    if let Some(byte) = flip.checked_sub(at).and_then(|index| bytes.get_mut(index as usize)) {
        *byte ^= 1;
    }
}

pub(super) type Head = (String, Vec<(String, String)>);

/// The first line and the headers without `Connection`, names in lower case; `None` at the end of the connection.
pub(super) fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut lines = lines.into_iter();
    let first = lines.next().ok_or(io::ErrorKind::InvalidData)?;
    let headers = lines.filter_map(|line| line.split_once(": ").map(|(k, v)| (k.to_lowercase(), v.to_owned())));
    Ok(Some((first, headers.filter(|(name, _)| name != "connection").collect())))
}
