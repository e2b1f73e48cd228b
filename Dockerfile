# The worker. PostgreSQL and Temporal are services of their own: see docker-compose.yml.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /app

COPY deploy/requirements.lock ./
RUN pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: -r requirements.lock

COPY corral ./corral
COPY domain ./domain
COPY activities ./activities
COPY workflows ./workflows
COPY worker ./worker
COPY examples ./examples
RUN python -m compileall -q corral domain activities workflows worker

RUN useradd --system --create-home --uid 10001 corral && install --directory --owner corral /var/lib/corral
USER corral

HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=4 CMD ["python", "-m", "worker.health"]
STOPSIGNAL SIGTERM
CMD ["python", "-m", "worker", "serve"]
