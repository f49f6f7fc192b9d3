//! Any RPC of a member by its path, with whatever metadata.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use prost::Message;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status};

/// How long the first answer of a stream may take; some wait for what never comes.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// Messages as bytes.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// A client of one member.
#[derive(Clone)]
pub(crate) struct Wire {
    channel: Channel,
    /// Whether requests bear the mark of a gateway.
    pub(crate) through_gateway: bool,
}

impl Wire {
    pub(crate) async fn connect(url: &str) -> Self {
        Self::over(Channel::from_shared(url.to_owned()).unwrap().connect().await.unwrap())
    }

    pub(crate) fn over(channel: Channel) -> Self {
        Self { channel, through_gateway: false }
    }

    /// The first answer to `message`; `None` if the stream ends or waits without one.
    pub(crate) async fn ask(
        &self,
        path: &str,
        message: &[u8],
        token: Option<&str>,
    ) -> Result<Option<Bytes>, Status> {
        let mut request = Request::new(futures::stream::iter([message.to_vec()]));
        if let Some(token) = token {
            request.metadata_mut().insert("token", token.parse().unwrap());
        }
        if self.through_gateway {
            request.metadata_mut().insert("grpcgateway-accept", "*/*".parse().unwrap());
        }
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let asking = async {
            let path: PathAndQuery = path.parse().unwrap();
            let mut answers = grpc.streaming(request, path, Raw).await?.into_inner();
            answers.message().await
        };
        tokio::time::timeout(FIRST_ANSWER, asking).await.unwrap_or(Ok(None))
    }

    /// The answer to a unary call that must succeed.
    pub(crate) async fn done<M: Message + Default>(
        &self,
        path: &str,
        message: &impl Message,
        token: Option<&str>,
    ) -> M {
        let answer = self.ask(path, &message.encode_to_vec(), token).await;
        let answer = answer.unwrap_or_else(|status| panic!("{path}: {status}"));
        M::decode(answer.unwrap_or_else(|| panic!("{path}: no answer"))).unwrap()
    }
}
