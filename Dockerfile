# The small installation, with its model inside: docs/installation.md says how it is used.
FROM python:3.13-slim

# Such as gradio, for `passionsr serve`.
ARG FURTHER_PACKAGES=""
COPY requirements/small.txt /build/requirements/
RUN pip install --no-cache-dir -r /build/requirements/small.txt ${FURTHER_PACKAGES}

COPY pyproject.toml README.md LICENSE /build/
COPY configs /build/configs
COPY passionsr_cli /build/passionsr_cli
RUN pip install --no-cache-dir --no-deps /build && rm -r /build

RUN useradd --create-home passionsr
USER passionsr
# Also for users that `docker run --user` names, who have no home.
ENV PASSIONSR_HOME=/tmp/passionsr/home PASSIONSR_CACHE=/tmp/passionsr/cache
WORKDIR /photographs
ENTRYPOINT ["passionsr"]
CMD ["--help"]
