# The container of Dataflow's workers; of the launcher too, when the job is started from a Flex Template
# (docs/dataflow.md). From the root of the repository:
#   docker build --tag=REGION-docker.pkg.dev/PROJECT/REPOSITORY/stat-tf:TAG .
# The wheels of OpenCV, PyAV and TensorFlow bring all their libraries but the C and C++ runtimes, which this image has.
FROM python:3.11-slim

COPY --from=apache/beam_python3.11_sdk:2.77.0 /opt/apache/beam /opt/apache/beam
COPY --from=gcr.io/dataflow-templates-base/python311-template-launcher-base \
  /opt/google/dataflow/python_template_launcher /opt/google/dataflow/python_template_launcher

# Apart from the code, so that a change of it does not install all this again.
WORKDIR /stat_tf
COPY requirements.lock requirements-dev.lock requirements-gcp.lock ./
RUN grep -vxFf requirements-dev.lock requirements.lock > run.lock \
  && pip install --no-cache-dir --require-hashes -r run.lock -r requirements-gcp.lock

COPY setup.py pyproject.toml README.md ./
COPY stat_tf stat_tf
COPY pipeline pipeline
RUN pip install --no-cache-dir --no-deps --no-build-isolation . && pip check && rm -r stat_tf pipeline build

# The launcher runs a file, not a module.
COPY configs/dataflow configs/dataflow
RUN echo 'import runpy; runpy.run_module("pipeline.build_dataset", run_name="__main__", alter_sys=True)' > launch.py
ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/stat_tf/launch.py

ENTRYPOINT ["/opt/apache/beam/boot"]
