//! The yardstick of `scripts/bench.sh`: Pingora passing everything on, and nothing else.
//!
//! `bare LISTEN UPSTREAM`, both `address:port`. Has the gateway's allocator, threads and build profile,
//! so that what the gateway costs more is what the gateway does.

use async_trait::async_trait;
use pingora::{
    Result,
    server::{RunArgs, Server, configuration::ServerConf},
    upstreams::peer::HttpPeer,
};
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};
use std::{error::Error, net::SocketAddr, thread::available_parallelism};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Bare {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream] = arguments.as_slice() else {
        return Err("usage: bare LISTEN UPSTREAM".into());
    };
    let conf = ServerConf { threads: available_parallelism()?.get(), ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Bare { upstream: upstream.parse()? });
    service.add_tcp(listen);
    server.add_service(service);
    server.run(RunArgs::default());
    Ok(())
}
