# docker build -t landscape .
# docker run --rm --init -p 127.0.0.1:8050:8050 -v landscape:/home/landscape/data landscape
#
# The build computes on the CPU. For CUDA: --build-arg DEVICE=cuda, and docker run --gpus all. PyTorch comes from the index
# that pip is configured with; --build-arg TORCH_INDEX=URL takes one of PyTorch's own indexes instead, which hold a small
# build for the CPU and one for each version of CUDA. Everything else is what requirements.lock names, by its hashes; PyTorch
# comes last, since all that it needs of that is there by then.
FROM python:3.11.16-slim-trixie@sha256:9534e5a8e315485d4061ed659af0fd78a284c015f9b73661b41d6bab25604534

ARG TORCH_INDEX=""
ARG DEVICE=cpu

RUN useradd --create-home --uid 1000 landscape \
    && install -d -m 0700 -o landscape -g landscape /home/landscape/data
WORKDIR /home/landscape/app

COPY requirements.txt requirements.lock ./
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock \
    && pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' requirements.txt)"

COPY app.py server.py ./
COPY assets ./assets
COPY landscape_core ./landscape_core
COPY pages ./pages

# Only here does the server listen to others: the container's port is what docker run publishes, and to whom.
ENV LANDSCAPE_HOST=0.0.0.0 \
    LANDSCAPE_PORT=8050 \
    LANDSCAPE_HOME=/home/landscape/data \
    LANDSCAPE_DEVICE=$DEVICE \
    PYTHONUNBUFFERED=1
USER landscape
VOLUME /home/landscape/data
EXPOSE 8050

HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['LANDSCAPE_PORT'] + '/health', timeout=4)"]
CMD ["python", "app.py"]
